"""`wallet prove`, for as long as a test may take."""

import json
import subprocess
from pathlib import Path

from tests.helpers.processes import inside
from tests.helpers.wallet_processes import WALLET, environment

_SECONDS = 900  # a machine that is busy takes longer to start everything again


def test_what_is_broken_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [WALLET, "prove", "--minutes", "0.3", "--seed", "4", "--json"],
        cwd=tmp_path,
        env=environment({"TMPDIR": str(tmp_path)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    assert run.stdout, run.stderr
    proof = json.loads(run.stdout.splitlines()[-1])
    assert (proof["lost"], proof["doubled"], proof["other"]) == ([], [], [])
    assert (run.returncode, proof["holds"]) == (0, True), run.stderr
    assert proof["faults"] > 10
    assert proof["made"] > 50
    assert list(tmp_path.iterdir()) == []
    assert inside(tmp_path) == {}
