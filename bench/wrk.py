"""Drives the API through wrk."""

import secrets
import subprocess
from pathlib import Path

import msgspec

from bench.load import LATE_SECONDS, Load, Run

_SCRIPT = Path(__file__).with_name("wrk.lua")
# wrk starts each thread when it has read its script's file, and counts the time from when the last has started.
_THREADS = 1


class LoadFailed(Exception):
    """wrk ended with an error; the message has its last words."""


def drive(load: Load) -> Run:
    """
    Send the load for its time and count what comes back.

    Raises:
        LoadFailed: wrk could not.
    """
    shape = load.shape
    command = ["wrk", "-t", str(_THREADS), "-c", str(load.connections)]
    command += ["-d", f"{load.seconds}s", "--timeout", f"{LATE_SECONDS}s", "-s", str(_SCRIPT)]
    command += [f"http://{load.host}:{load.port}", "--", str(load.holders)]
    command += [str(secrets.randbelow(10**6)), secrets.token_hex(12), str(shape.senders), str(shape.receivers)]
    command += [",".join(shape.steps), str(shape.items), shape.query]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=load.seconds + 120,
        start_new_session=True,  # a Ctrl-C in the terminal is for us alone; we end it
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        raise LoadFailed(f"wrk did not finish:\n{(done.stderr + done.stdout).strip()[-1000:]}")
    return msgspec.json.decode(lines[-1], type=Run)
