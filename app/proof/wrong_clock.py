"""`wallet`, on a clock that is wrong: `python -m app.proof.wrong_clock 30 api`. Needs the package time-machine."""

import runpy
import signal
import sys
import time
from importlib.util import find_spec
from random import Random

MAY_DIFFER = find_spec("time_machine") is not None


def main() -> None:
    """Run the command up to so many seconds ahead of or behind the host's clock; SIGUSR1 makes it jump."""
    import time_machine  # one of the development packages

    most = float(sys.argv.pop(1))
    chance = Random()
    with time_machine.travel(time.time() + chance.uniform(-most, most)) as traveller:

        def jump(*_: object) -> None:
            traveller.move_to(time_machine.escape_hatch.time.time() + chance.uniform(-most, most))

        signal.signal(signal.SIGUSR1, jump)
        runpy.run_module("app.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
