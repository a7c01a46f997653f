"""Export has everything, erasure leaves nothing but the ledger: every column, every key and every file is searched."""

import json
import re
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from piccolo.table import Table
from redis.asyncio import Redis

from app.commands.personal_data import erase_person, export_person
from app.people import personal_data
from app.people.lookup import PersonError
from app.people.personal_data import export
from app.settings import Settings
from db.tables import AuditResult, Transaction, User, Wallet
from tests.helpers.images import kept, picture, upload
from tests.helpers.users import CodeOf, Join, Member, OpenWallet
from tests.helpers.wallet_processes import run_wallet

EMAIL, PHONE, FIRST, LAST = "zhanar@example.com", "+77012223344", "Zhanarbek", "Ospanbayeva"


@pytest.fixture
async def zhanar(join: Join, client: httpx.AsyncClient) -> Member:
    """Somebody with names, an image, a wallet, keys and messages."""
    member = await join(email=EMAIL, phone_number=PHONE)
    answer = await upload(client, member, picture(), first_name=FIRST, last_name=LAST)
    assert answer.status_code == 200, answer.text
    return member


async def rename(wallet: OpenWallet) -> httpx.Response:
    return await wallet.owner.request("PATCH", f"/users/wallets/{wallet.id}/update/", json={"name": FIRST})


async def found(settings: Settings, text: str) -> list[str]:
    """Where a text stands: table and column, key in Redis, file."""
    places = []
    connection = await asyncpg.connect(settings.database_url)
    try:
        columns = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        )
        assert len(columns) > 60
        for table, column in columns:
            statement = f'SELECT count(*) FROM "{table}" WHERE "{column}"::text ILIKE $1'
            if await connection.fetchval(statement, f"%{text}%"):
                places.append(f"{table}.{column}")
    finally:
        await connection.close()
    async with Redis.from_url(settings.redis_url) as redis:
        places += [
            key.decode() async for key in redis.scan_iter() if text.encode() in key + (await redis.dump(key) or b"")
        ]
    return places + [path.name for path in kept(settings) if text.encode() in path.read_bytes()]


async def test_nothing_is_left_but_the_ledger(
    client: httpx.AsyncClient, zhanar: Member, ben: Member, settings: Settings, join: Join
) -> None:
    wallet, other = await zhanar.open_wallet(), await ben.open_wallet()
    assert (await rename(wallet)).status_code == 200
    assert (await wallet.deposit("50.00", key=f"top up of {FIRST}")).status_code == 201
    with pytest.raises(PersonError, match=rf"money in {wallet.number} \(50\.00 KZT\)"):
        await erase_person(settings, EMAIL)
    assert (await wallet.send("50.00", other)).status_code == 201
    change = {"password": zhanar.password, "new_password": "another long password"}
    assert (await wallet.owner.request("POST", "/users/password/update/", json=change)).status_code == 201
    async with Redis.from_url(settings.redis_url) as redis:
        assert [key async for key in redis.scan_iter(match="wallet:code:password:*")]
    assert all([await found(settings, text) for text in (EMAIL, PHONE, FIRST, LAST)])
    assert len(kept(settings)) == 1

    erased = await erase_person(settings, PHONE)

    for text in (EMAIL, PHONE, FIRST, LAST):
        assert await found(settings, text) == []
    async with Redis.from_url(settings.redis_url) as redis:
        assert not [key async for key in redis.scan_iter(match=f"wallet:code:*{erased}*")]
    assert kept(settings) == []
    assert len(await other.history()) == 1
    refused = await other.send("10.00", wallet)
    assert (refused.status_code, refused.json()["code"]) == (400, "receiver_unavailable")
    # What was signed before does nothing any more.
    for method, path, body in (
        ("GET", "/users/", None),
        ("PATCH", "/users/update/", {"first_name": FIRST}),
        ("POST", "/users/wallets/create/", {"amount_currency": "USD"}),
    ):
        answer = await wallet.owner.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), path
    assert (await rename(wallet)).status_code == 404
    answer = await client.post("/users/token/refresh/", json={"refresh": zhanar.tokens["refresh"]})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    with pytest.raises(PersonError, match="erased already"):
        await erase_person(settings, str(erased))
    again = await join(email=EMAIL, phone_number=PHONE)
    assert again.user["id"] != str(erased)


async def test_a_code_that_was_asked_for_before_resets_nothing(
    client: httpx.AsyncClient, zhanar: Member, settings: Settings, code_of: CodeOf
) -> None:
    session = (await client.post("/users/password/reset/", json={"email": EMAIL})).json()
    code = await code_of(session)
    erased = await erase_person(settings, EMAIL)
    before = await User.select().where(User.id == erased).first()
    body = {"session_id": session["session_id"], "code": code, "new_password": "quite another long password"}
    answer = await client.post("/users/password/reset/verify/", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code"), answer.text
    assert await User.select().where(User.id == erased).first() == before


async def test_an_export_has_everything_and_no_secret(
    client: httpx.AsyncClient, zhanar: Member, ben: Member, settings: Settings, tmp_path: Path, code_of: CodeOf
) -> None:
    wallet, other = await zhanar.open_wallet(), await ben.open_wallet()
    await wallet.deposit("50.00", key="a key")
    await wallet.send("20.00", other, reference="for the tea")
    path = tmp_path / "zhanar.json"
    await export_person(settings, EMAIL, str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    told: dict[str, Any] = json.loads(path.read_text())
    assert {told["person"][name] for name in ("email", "phone_number", "first_name", "last_name")} == {
        *(EMAIL, PHONE, FIRST, LAST)
    }
    assert Path(told["person"]["profile_image"]) in kept(settings)
    (kept_wallet,) = told["wallets"]
    assert (kept_wallet["wallet_number"], kept_wallet["balance"]) == (wallet.number, "30.00")
    history = [(each["operation_type"], each["change"], each["reference"]) for each in kept_wallet["history"]]
    assert history == [("DEPOSIT", "50.00", None), ("TRANSFER", "-20.00", "for the tea")]
    assert [key["key"] for key in told["idempotency_keys"]] == ["a key"]
    assert {message["template"] for message in told["messages"]} == {"registration_code", "welcome"}
    assert len(told["sessions"]) == 1
    row = await User.select(User.password_hash).where(User.email == EMAIL).first()
    assert row
    assert row["password_hash"] not in path.read_text()
    with pytest.raises(FileExistsError):
        await export_person(settings, EMAIL, str(path))
    out = StringIO()
    await export(UUID(zhanar.user["id"]), out, media_folder=Path(settings.media_folder))
    assert out.getvalue() == path.read_text()


@pytest.mark.parametrize(
    ("table", "statement", "left_out"),
    [
        (Transaction, personal_data._HISTORY, {"sender_balance"}),  # the entry's balance says it, and for both sides
        (Wallet, personal_data._WALLETS, {"user", "system", "updated_at", "last_entry_at", "dates_went_back"}),
        (User, personal_data._PERSON, {"password_hash"}),
    ],
)
def test_every_column_is_in_the_export_or_left_out_on_purpose(
    table: type[Table], statement: str, left_out: set[str]
) -> None:
    selected = statement.split("FROM")[0] + " ".join(re.findall(r"\bt\.\w+", statement))
    columns = {column._meta.name for column in table._meta.columns}
    assert {name for name in columns if not re.search(rf"\b{name}\b", selected)} == left_out


async def test_the_commands_export_erase_and_prove_the_books(
    client: httpx.AsyncClient, zhanar: Member, settings: Settings, tmp_path: Path
) -> None:
    await zhanar.open_wallet()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
        return run_wallet(*arguments, folder=tmp_path, WALLET_MEDIA_FOLDER=settings.media_folder, **variables)

    printed, written = run("user", "export", PHONE), run("user", "export", EMAIL, "--output", "zhanar.json")
    assert (printed.returncode, written.returncode) == (0, 0), printed.stderr + written.stderr
    assert printed.stdout == (tmp_path / "zhanar.json").read_text()
    assert json.loads(printed.stdout)["person"]["email"] == EMAIL
    assert "zhanar.json: File exists." in run("user", "export", EMAIL, "--output", "zhanar.json").stderr
    assert run("user", "erase", EMAIL).returncode != 0, "nobody has said yes"
    assert await User.exists().where(User.email == EMAIL)
    erased = run("user", "erase", EMAIL, "--yes")
    assert (erased.returncode, erased.stdout.split(".")[0]) == (0, f"Erased: {zhanar.user['id']}"), erased.stderr
    assert run("user", "erase", EMAIL, "--yes").stderr.startswith("Error: There is nobody")
    assert run("audit", "--keep").returncode == 0
    assert await AuditResult.count() == 1


async def test_nobody_is_found_by_nonsense(client: httpx.AsyncClient, settings: Settings) -> None:
    for text in ("nobody@example.com", "+77010000000", "x", "00000000-0000-0000-0000-000000000000", ""):
        with pytest.raises(PersonError):
            await erase_person(settings, text)
