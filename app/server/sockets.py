"""Listening sockets, and what is configured of HTTP."""

import errno
import socket
from ipaddress import ip_network
from typing import Annotated

from msgspec import Meta, Struct

from app.http.cors import check_origin
from db.errors import ReadableError

BACKLOG = 2048


class Http(Struct, frozen=True, kw_only=True):
    """Limits and trust for HTTP clients and proxies."""

    trusted_proxies: str = ""
    """Comma-separated addresses or networks whose X-Forwarded-For and X-Forwarded-Proto the API trusts."""
    allowed_origins: str = ""
    """Comma-separated exact origins, such as https://shop.example, whose pages may use the API from a browser."""
    request_seconds: Annotated[float, Meta(ge=1)] = 20
    """Time limit for a request to arrive, and for a client that stops reading. A body that keeps coming gets more."""
    connections_max: Annotated[int, Meta(ge=1)] = 10_000
    """Connections of one process. It refuses more."""
    linger_seconds: float = 0
    """How long a stopping process still accepts requests, while /health/ready tells proxies to use other processes."""

    def __post_init__(self) -> None:
        """Raises `ValueError`, with the setting, where a proxy or origin is none: nobody would be trusted, or told."""
        for check, setting, parts in (
            (ip_network, "TRUSTED_PROXIES", self.proxies),
            (check_origin, "ALLOWED_ORIGINS", self.origins),
        ):
            for part in parts:
                try:
                    check(part)
                except ValueError as error:
                    raise ValueError(f"{setting}: {error}") from None

    @property
    def proxies(self) -> list[str]:
        """Each of the trusted addresses and networks."""
        return _parts(self.trusted_proxies)

    @property
    def origins(self) -> list[str]:
        """Each of the allowed origins."""
        return _parts(self.allowed_origins)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class PortTaken(ReadableError):
    """Nothing can listen there."""


def listen(host: str, port: int, *, processes: int = 1) -> list[socket.socket]:
    """
    Listening sockets on one port, one for each process. Whoever connects from now on waits until a process accepts.

    The kernel spreads connections over them by their addresses (SO_REUSEPORT). With one socket for all, the process
    that happens to be awake takes most of them: of 64 connections one of two processes was seen to get 62.

    Raises:
        PortTaken: somebody else listens there, or we may not.
    """
    # Asked first without sharing: otherwise a second `wallet` of the same user would join in unnoticed.
    first = _listen(host, port, shared=False)
    if processes == 1:
        return [first]
    port = first.getsockname()[1]
    first.close()
    return [_listen(host, port, shared=True) for _ in range(processes)]


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"Port {port} is taken: stop what uses it, or choose another port.") from None
        raise PortTaken(f"Nothing can listen on {host}, port {port}: {error.strerror}.") from None
    return listener
