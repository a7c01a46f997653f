"""
`make mutants`: small mistakes are made in `actors/`, one at a time, and the tests must notice each.

What survives is either no mistake at all or a test that is missing. mutmut makes and tries the mistakes in a copy under
`build/mutants/`, where `mutmut show NAME` tells what one is. The engine's tests share one pair of servers.
"""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
from msgspec import Struct, json

from db.servers.embedded import embedded_servers

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build/mutants"

# Mistakes in lines like these can't hurt: what is logged, what an error says to people, what is measured.
_HARMLESS = (r"log\.", r"raise \w+\(f?\"", r"Overloaded\(\"", r"^\s*f\"", r"signals\.", r"with Stage\(", r"on_road")


class Room(Struct, frozen=True):
    """Modules, as paths below `actors/`, and the tests that concern them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "rules": Room(
        (
            *("rules/apply", "rules/payments", "rules/book", "rules/bulk", "rules/corrections", "rules/fees"),
            *("engine/mailbox", "money", "orders"),
        ),
        tuple(
            f"tests/unit/test_{of}.py"
            for of in ("rules", "rules_stateful", "money", "corrections", "bulk", "mailbox", "orders")
        ),
    ),
    "engine": Room(
        (
            *("bank", "engine/settlement", "engine/loading", "engine/locks"),
            *("engine/redis_connection", "engine/background"),
        ),
        tuple(
            f"tests/ledger/test_{of}.py" for of in ("bank", "locks", "bulk", "corrections", "fees", "commit_in_doubt")
        ),
    ),
}


class Result(Struct):
    """What mutmut writes about the mutants of one file."""

    exit_code_by_key: dict[str, int | None]


@click.command()
@click.argument("rooms", nargs=-1, type=click.Choice(list(ROOMS)))
@click.option("--sample", type=int, help="Try only so many mutants of each room.")
@click.option("--seed", default=1, help="Which ones: the same number, the same sample.")
def main(rooms: tuple[str, ...], sample: int | None, seed: int) -> None:
    """Mutate these rooms of actors/, or all, and tell what survived."""
    for name in rooms or ROOMS:
        folder = _copy(name, ROOMS[name])
        with embedded_servers(BUILD / f"{name}-servers", durable=False) as servers:
            run = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *_sampled(folder, sample, seed)]
            urls = f"{servers.database_url} {servers.redis_url}"
            subprocess.run(run, cwd=folder, env=os.environ | {"TEST_SERVERS": urls}, check=True)
        _tell(folder, ROOMS[name])


def _copy(name: str, room: Room) -> Path:
    """The working tree without its history, and what mutmut is to do there. Results of an earlier run are dropped."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in ("actors", "app", "bench", "db", "tasks", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("piccolo_conf.py", "pyproject.toml"):
        shutil.copy(ROOT / part, folder)
    settings = {
        "source_paths": ["actors"],
        "only_mutate": [f"actors/{module}.py" for module in room.modules],
        "do_not_mutate_patterns": list(_HARMLESS),
        "also_copy": ["app", "bench", "db", "tasks", "piccolo_conf.py"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": list(room.tests),
    }
    lines = [f"{key}=\n" + "".join(f"  {value}\n" for value in values) for key, values in settings.items()]
    # A mutant that takes twice its tests' time, and some seconds, hangs: that counts as noticed.
    lines += ["timeout_multiplier=2.0\n", "timeout_constant=4.0\n", "track_dependencies=false\n"]
    (folder / "setup.cfg").write_text("[mutmut]\n" + "".join(lines))
    return folder


def _sampled(folder: Path, sample: int | None, seed: int) -> list[str]:
    """The names of the mutants to try; none stands for all."""
    if sample is None:
        return []
    names = """
import sys
from pathlib import Path
from mutmut.configuration import config
from mutmut.mutation.file_mutation import mutate_file_contents
for file in sorted(Path("actors").rglob("*.py")):
    if config().should_mutate(file):
        for name in mutate_file_contents(str(file), file.read_text()).mutant_names:
            print(".".join([*file.with_suffix("").parts, name]))
"""
    made = subprocess.run([sys.executable, "-c", names], cwd=folder, capture_output=True, text=True, check=True)
    found = made.stdout.split()
    return sorted(random.Random(seed).sample(found, min(sample, len(found))))


def _tell(folder: Path, room: Room) -> None:
    """A line for each module, and the names of those that nobody noticed."""
    survivors: list[str] = []
    for module in room.modules:
        file = folder / f"mutants/actors/{module}.py.meta"
        codes = json.decode(file.read_bytes(), type=Result).exit_code_by_key if file.exists() else {}
        tried = {name: code for name, code in codes.items() if code is not None}
        how = Counter("survived" if code in (0, 33) else "noticed" for code in tried.values())
        score = f"{100 * how['noticed'] / len(tried):.0f} %" if tried else "-"
        click.echo(f"{module:24} made {len(codes):4}  tried {len(tried):4}  noticed {how['noticed']:4}  {score}")
        survivors += sorted(name for name, code in tried.items() if code in (0, 33))
    click.echo("\n".join(["Survived:", *survivors]) if survivors else "None survived.")


if __name__ == "__main__":
    main()
