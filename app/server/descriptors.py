"""File descriptors: each connection takes one, and the system lets a process have only so many."""

import errno
import logging
import os
import resource

from actors.engine.seldom import Seldom

log = logging.getLogger(__name__)

# What a process opens besides: connections to PostgreSQL and Redis, decoders of images, files that are sent.
OTHERS = 200

_lacking = Seldom(log, "no file descriptor is left: the system drops new connections unanswered (see `ulimit -n`)")


def make_room(connections_max: int) -> int:
    """
    Raise this process's own limit as far as that needs, and say how many connections there is room for.

    Whoever runs us sets the limit that we can't raise. Where it is too low, a warning says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections_max
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (ValueError, OSError):  # macOS has a limit of its own below an unlimited one
        possible = soft
    if possible >= wanted:
        return connections_max
    room = min(connections_max, max(possible - OTHERS, possible // 2))
    log.warning(
        "WALLET_HTTP_CONNECTIONS_MAX is %d, but the system lets this process open only %d files: it serves %d"
        " connections at a time. Raise the limit (`ulimit -n`, LimitNOFILE=) to %d, or lower the setting.",
        connections_max,
        possible,
        room,
        wanted,
    )
    return room


def say_if_none_is_left() -> None:
    """Look whether another file could be opened. The event loop drops a connection that it has no descriptor for."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            _lacking.warn()
