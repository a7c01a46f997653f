"""Metrics where several processes serve one port: any of them answers for all."""

import os
import signal
import time
from pathlib import Path

import httpx
from litestar import Litestar
from prometheus_client.parser import text_string_to_metric_families

from app.auth.tokens import Lifetimes, Tokens
from app.settings import Settings
from tests.helpers.users import register
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wallet_processes import server

SECRET = "a secret of at least thirty-two bytes"
DEPOSITS = 60


def told(url: str) -> tuple[dict[str, float], int]:
    """The sums of samples by name, and how many samples have a pid in their labels."""
    sums: dict[str, float] = {}
    answer = httpx.get(f"{url}/metrics", timeout=GIVE_UP_SECONDS)
    assert answer.status_code == 200, answer.text
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums, answer.text.count("pid=")


async def test_any_process_answers_for_all_and_for_those_that_were_killed(
    app: Litestar, settings: Settings, tmp_path: Path
) -> None:
    """`app` is only there for its database and for the audit in the end."""
    addresses = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "WALLET_SECRET": SECRET}
    with server("api", "--workers", "2", folder=tmp_path, **addresses) as api:
        api.wait_until_live()
        alone = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=api.url, limits=alone, timeout=GIVE_UP_SECONDS) as client:
            wallet = await (await register(client, Tokens(SECRET, Lifetimes()))).open_wallet()
            for _ in range(DEPOSITS):  # each over a connection of its own, so that both processes get some
                assert (await wallet.deposit("1.00")).status_code == 201
        children = {int(pid) for pid in _children(api.process.pid)}
        assert len(children) == 2
        _until(api.url, DEPOSITS)
        for victim in children:
            os.kill(victim, signal.SIGKILL)
            _until(api.url, DEPOSITS)
        # They were started again, count on from there, and nothing is told of a process by its number.
        sums, with_pid = told(api.url)
        assert sums["wallet_mailbox_orders"] == 0
        assert with_pid == 0
        async with httpx.AsyncClient(base_url=api.url, timeout=GIVE_UP_SECONDS) as client:
            wallet.owner.client = client
            assert (await wallet.deposit("1.00")).status_code == 201
            _until(api.url, DEPOSITS + 1)
            assert await wallet.balance() == DEPOSITS + 1


def _until(url: str, deposits: int) -> None:
    """Several questions, which reach both processes, all get the same number in the end; it never goes beyond."""
    give_up_at, right = time.monotonic() + GIVE_UP_SECONDS, 0
    while right < 8:
        assert time.monotonic() < give_up_at
        try:
            sums, _ = told(url)
        except httpx.TransportError:  # the process that was asked has just been killed
            continue
        orders = sums.get("wallet_orders_total", 0.0)
        assert orders <= deposits
        right = right + 1 if orders == deposits == sums["wallet_mailbox_seconds_count"] else 0
        time.sleep(0.05)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
