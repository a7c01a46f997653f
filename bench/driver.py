"""Drives the API: through wrk, or a bundled client where that is missing."""

import shutil

from bench import client, wrk
from bench.load import Load, Run


def generator() -> str:
    """Who sends the requests, in words."""
    if shutil.which("wrk"):
        return "wrk, with one thread, on the same cores"
    return "a bundled Python client on the same cores, since wrk is not installed: it needs more of them than wrk"


def drive(load: Load) -> Run:
    """
    Send the load for its time and count what comes back.

    Raises:
        LoadFailed: wrk could not.
    """
    if shutil.which("wrk"):
        return wrk.drive(load)
    return client.drive(load)
