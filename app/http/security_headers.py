"""What every answer tells a browser: take it for nothing but what it is, and show it in no frame."""

from collections.abc import Callable, Iterable

Headers = tuple[tuple[bytes, bytes], ...]

_EVERYWHERE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# Browsers heed it over TLS alone.
_TLS_ONLY = (b"strict-transport-security", b"max-age=31536000")

ANSWER: Headers = (*_EVERYWHERE, (b"cache-control", b"no-store"), _NOTHING)
"""Of an answer of the API: tokens and money are kept in no cache."""

PRODUCTION_ANSWER: Headers = (*ANSWER, _TLS_ONLY)

_API = ("/users", "/api/v1/users")


def security_headers(*, production: bool) -> Callable[[str, Iterable[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]:
    """
    What gives an answer its headers, from the path that was asked for and the headers that it has.

    Answers of the API have none of these by themselves, so they are not looked for: it is on the path of payments.
    Pages have a policy of their own, which is kept, and get what is missing.
    """
    production_only = (_TLS_ONLY,) if production else ()
    answer = PRODUCTION_ANSWER if production else ANSWER
    page = (*_EVERYWHERE, _NOTHING, *production_only)

    def with_security(path: str, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if path.startswith(_API):
            return [*headers, *answer]
        known = {name.lower() for name, _ in headers}
        return [*headers, *(each for each in page if each[0] not in known)]

    return with_security
