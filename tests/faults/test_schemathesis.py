"""Whatever the OpenAPI document allows, and what it does not: every answer is one that the document promises."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.conftest import assert_audit
from tests.faults.real_servers import api_servers, publish_rates
from tests.persons import register

EXAMPLES = 25
# `positive_data_acceptance` wants a success for all that the document allows. A code that is wrong, a wallet that is
# empty and a key that was used for something else are allowed by it, and refused all the same.
LEFT_OUT = "positive_data_acceptance"


def run_schemathesis(url: str, token: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """All its checks but one, on every operation, with the same examples each time."""
    return subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/docs/openapi.json"),
            *("--url", url, "--header", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--exclude-checks", LEFT_OUT, "--seed", "20261124"),
            *("--max-examples", str(EXAMPLES), "--no-color"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


async def test_schemathesis_finds_nothing(database: str, redis_url: str, tmp_path: Path) -> None:
    await publish_rates(redis_url)
    with api_servers(1, database_url=database, redis_url=redis_url, folder=tmp_path) as (api,):
        async with httpx.AsyncClient(base_url=api.url) as client:
            alice = await register(client)
            await alice.open_wallet(holding="1000.00")
            await alice.open_wallet("USD", holding="5.00")
            document = (await client.get("/docs/openapi.json")).json()
        assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
        done = await asyncio.to_thread(run_schemathesis, api.url, alice.token, tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
        assert "Stateful" in done.stdout
        assert "25/25" in done.stdout, "every operation was tried"
    await assert_audit()
