"""Blocked people get in nowhere, and money still reaches them."""

import asyncio
import subprocess
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from actors.orders import StaffMember
from app.people.blocking import block, unblock
from app.people.lookup import PersonError
from app.proof.cable import Cable, Fault
from app.settings import Settings
from db.tables import StaffAction
from db.transaction import CommitInDoubt
from tests.helpers.staff import signed_in
from tests.helpers.tokens import alive, bearer_refusal, refresh, sign_in
from tests.helpers.users import Member, register
from tests.helpers.wallet_processes import run_wallet

PHONE = "+77011234567"
STAFF = StaffMember(7, "ayan")


async def test_a_blocked_person_gets_in_nowhere_until_unblocked(
    client: httpx.AsyncClient, app: Litestar, ann: Member
) -> None:
    sender = await (await register(client)).open_wallet(holding="10")
    number = (await client.post("/users/wallets/create/", json={}, headers=ann.headers)).json()["wallet_number"]
    assert await alive(client, ann.tokens)
    done = await block("ANN@example.com", reason="stolen phone", staff=STAFF, phone_region="KZ")
    assert (done.changed, len(done.sessions)) == (True, 1)
    assert not (await block(PHONE, reason="again", staff=STAFF, phone_region="KZ")).changed
    await app.state.revocations.catch_up()
    assert not await alive(client, ann.tokens)
    assert bearer_refusal(await refresh(client, ann.tokens["refresh"])) == (401, "token_invalid")
    unknown, blocked = await sign_in(client, "+77010000000"), await sign_in(client, PHONE)
    assert (blocked.status_code, blocked.json()) == (unknown.status_code, unknown.json())
    assert (await sender.send("5", number)).status_code == 201
    assert (await unblock(ann.user["id"], reason="found again", staff=STAFF, phone_region="KZ")).changed
    assert (await sign_in(client, PHONE)).status_code == 201
    assert not await alive(client, ann.tokens)
    logged = await StaffAction.select().order_by(StaffAction.created_at)
    assert [(row["action"], row["staff_name"], row["reason"], str(row["user"])) for row in logged] == [
        ("BLOCK", "ayan", "stolen phone", ann.user["id"]),
        ("UNBLOCK", "ayan", "found again", ann.user["id"]),
    ]


async def test_operators_block_and_unblock_by_a_form(client: httpx.AsyncClient, app: Litestar, ann: Member) -> None:
    async with signed_in(app, "vera", operator=True) as vera:
        for form, wrong, sentence in (
            ("block-a-person", {"person": "+77010000000"}, "There is nobody with this id or phone number."),
            ("block-a-person", {"person": "' OR 1=1"}, "Give an id, an email address or"),
            ("unblock-a-person", {}, "They were not blocked."),
            ("block-a-person", {}, "Blocked: their sessions end within seconds."),
            ("block-a-person", {}, "They were blocked already."),
        ):
            status, said = await vera.form(form, **{"person": PHONE, "reason": "stolen phone", **wrong})
            assert (status, said[: len(sentence)]) == (422 if wrong else 200, sentence)
        await app.state.revocations.catch_up()
        assert not await alive(client, ann.tokens)
        assert (await sign_in(client, PHONE)).status_code == 401
        assert (await vera.form("unblock-a-person", person=ann.user["id"], reason="found again"))[0] == 200
    assert (await sign_in(client, PHONE)).status_code == 201
    logged = await StaffAction.select().order_by(StaffAction.created_at)
    assert [(row["action"], row["staff_name"], row["reason"], str(row["user"])) for row in logged] == [
        ("BLOCK", "vera", "stolen phone", ann.user["id"]),
        ("UNBLOCK", "vera", "found again", ann.user["id"]),
    ]


class TestInDoubt:
    """The connection is lost around the COMMIT of a form: the operator is told to look, and asks again without harm."""

    @pytest.fixture
    def settings(self, line: Cable, settings: Settings) -> Settings:
        """As ever, but the application's pool is made while the cable is between it and PostgreSQL."""
        return settings

    @pytest.mark.parametrize(
        ("fault", "happened"),
        [("unsent", False), ("unanswered", True), ("terminated", True), ("silent", True)],
    )
    async def test_it_is_said_and_done_once_however_often_it_is_asked_for(
        self,
        client: httpx.AsyncClient,
        app: Litestar,
        ann: Member,
        line: Cable,
        monkeypatch: pytest.MonkeyPatch,
        fault: Fault,
        happened: bool,
    ) -> None:
        async with signed_in(app, "vera", operator=True) as vera:
            for form, done, unchanged, lets_in in (
                ("block-a-person", "Blocked: their sessions end", "They were blocked already.", 401),
                ("unblock-a-person", "No longer blocked: they can", "They were not blocked.", 201),
            ):
                line.faults = [fault]
                commits = line.commits
                with monkeypatch.context() as hasty:
                    hasty.setattr("db.transaction.COMMIT_SECONDS", 2)
                    status, said = await vera.form(form, person=PHONE, reason="stolen phone")
                assert (status, said) == (503, str(CommitInDoubt()))
                assert (line.commits, line.faults) == (commits + 1, [])
                status, said = await vera.form(form, person=PHONE, reason="stolen phone")
                expected = unchanged if happened else done
                assert (status, said[: len(expected)]) == (200, expected)
                assert (await sign_in(client, PHONE)).status_code == lets_in
        await app.state.revocations.catch_up()
        assert not await alive(client, ann.tokens)
        logged = await StaffAction.select().order_by(StaffAction.created_at)
        assert [row["action"] for row in logged] == ["BLOCK", "UNBLOCK"]

    async def test_the_command_says_so_too(self, ann: Member, line: Cable, tmp_path: Path) -> None:
        async def run() -> subprocess.CompletedProcess[str]:
            command = ("user", "block", PHONE, "--reason", "stolen phone")
            return await asyncio.to_thread(run_wallet, *command, folder=tmp_path, DATABASE_URL=line.url)

        line.faults = ["unanswered"]
        done = await run()
        assert (done.returncode, done.stderr) == (1, f"Error: {CommitInDoubt()}\n")
        assert (await run()).stdout.startswith(f"{ann.user['id']} is blocked already.")


async def test_nobody_else_is_blocked(subtests: pytest.Subtests, app: Litestar) -> None:
    for who in ["nobody@example.com", "+77010000000", "0b9aa4e4-9f9f-4f5b-8f9b-1c8f3c2f1d11", "?", "a@"]:
        with subtests.test(msg=f"{who!r:.60}"), pytest.raises(PersonError):
            await block(who, reason="a test", staff=STAFF, phone_region="KZ")


async def test_without_a_good_reason_nobody_is_blocked(subtests: pytest.Subtests, ann: Member) -> None:
    for reason in [
        "",
        "  ",
        "x" * 501,
        "two\nlines",
        "stolen\u200bphone",
        "stolen phone\u2028",
        "\u202eenohp nelots",
        "\u0301\u0301\u0301",
    ]:
        with subtests.test(msg=f"{reason!r:.60}"):
            with pytest.raises(PersonError):
                await block(PHONE, reason=reason, staff=STAFF, phone_region="KZ")
            assert not await StaffAction.exists()


async def test_the_command_blocks_and_says_so(
    ann: Member, client: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_wallet("user", *arguments, folder=tmp_path, DATABASE_URL=settings.database_url)

    done = run("block", PHONE, "--reason", "stolen phone")
    assert (done.returncode, done.stdout.split(".")[0]) == (0, f"{ann.user['id']} is blocked"), done.stderr
    assert (await sign_in(client, PHONE)).status_code == 401
    assert run("block", "nobody@example.com", "--reason", "a test").stderr.startswith("Error: There is nobody")
    assert run("unblock", ann.user["id"], "--reason", "found").returncode == 0
    assert (await sign_in(client, PHONE)).status_code == 201
    first = await StaffAction.select().first()
    assert first is not None
    assert (first["staff"], first["staff_name"][:14]) == (0, "command line (")
