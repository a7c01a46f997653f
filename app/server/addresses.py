"""Where a request comes from: one address for one client, whichever way it came, and what trusted proxies say of it."""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

# How IPv4 looks to a socket that takes both (RFC 4291, 2.5.5.2).
_MAPPED = IPv6Network("::ffff:0:0/96")
_EVERYBODY = IPv4Network("0.0.0.0/0")


@lru_cache(maxsize=4096)
def plain(address: str) -> str:
    """An address as everybody writes it: `::ffff:192.0.2.1` is 192.0.2.1; what is no address stays as it is."""
    try:
        mapped = getattr(ip_address(address), "ipv4_mapped", None)
    except ValueError:
        return address
    return str(mapped or address)


class ForwardedFor(ProxyHeadersMiddleware):
    """uvicorn's, which believes X-Forwarded-For and X-Forwarded-Proto of proxies, and knows them in either form."""

    def __init__(self, app: Any, proxies: list[str]) -> None:
        async def with_plain_client(scope: Any, receive: Any, send: Any) -> None:
            if client := scope.get("client"):
                scope["client"] = (plain(client[0]), client[1])
            await app(scope, receive, send)

        super().__init__(with_plain_client, [])
        self.trusted_hosts = _Trusted(list(_forms(proxies)))


class _Trusted(_TrustedHosts):
    def _compute_trust(self, host: str) -> bool:
        return super()._compute_trust(plain(host))


def _forms(proxies: list[str]) -> Iterator[str]:
    """The networks, and those of IPv4 that they name in the form of IPv6."""
    for network in map(ip_network, proxies):
        yield str(network)
        if isinstance(network, IPv4Network):
            continue
        if network.subnet_of(_MAPPED):
            yield str(IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen)))
        elif network.supernet_of(_MAPPED):
            yield str(_EVERYBODY)
