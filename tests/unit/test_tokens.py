"""Tokens: signed, read, told apart, remembered for a while."""

from contextlib import suppress
from time import monotonic, time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.refusals import Refusal
from app.auth import tokens as auth
from app.auth.tokens import ACCESS, REFRESH, Lifetimes, NotAuthenticated, TokenExpired, TokenInvalid, Tokens

SECRET = "a secret of the tests, long enough"
TOKENS = Tokens(SECRET, Lifetimes())
ANN, SESSION = uuid4(), uuid4()


def forged(**changes: Any) -> str:
    """A token signed with our key, but not quite like ours."""
    claims = {"iss": "wallet", "aud": "wallet", "sub": str(ANN), "jti": str(uuid4()), "iat": int(time())}
    claims |= {"exp": int(time()) + 60, "sid": str(SESSION)} | changes
    (key_id, key), *_ = TOKENS._keys.items()
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm="HS256", headers={"typ": ACCESS, "kid": key_id})


def test_a_token_tells_whose_it_is() -> None:
    assert TOKENS.read(TOKENS.access(ANN, SESSION), ACCESS).user_id == ANN
    token_id = uuid4()
    claims = TOKENS.read(TOKENS.refresh(ANN, token_id), REFRESH)
    assert (claims.user_id, claims.token_id) == (ANN, token_id)


def test_one_kind_does_not_pass_as_the_other() -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(TOKENS.access(ANN, SESSION), REFRESH)
    with pytest.raises(TokenInvalid):
        TOKENS.read(TOKENS.refresh(ANN, uuid4()), ACCESS)


@pytest.mark.parametrize(
    "changes",
    [{"iss": "other"}, {"aud": "other"}, {"sub": "ann"}, {"jti": "1"}, {"sid": "1"}, {"iat": int(time()) + 3600}]
    + [{name: None} for name in ("iss", "aud", "sub", "jti", "iat", "exp", "sid")],
)
def test_every_claim_counts(changes: dict[str, Any]) -> None:
    assert TOKENS.read(forged(), ACCESS)
    with pytest.raises(TokenInvalid):
        TOKENS.read(forged(**changes), ACCESS)


def test_an_expired_token_says_so() -> None:
    with pytest.raises(TokenExpired):
        TOKENS.read(forged(exp=int(time()) - 1), ACCESS)


def test_a_retired_secret_still_reads_its_tokens() -> None:
    old = TOKENS.access(ANN, SESSION)
    new = Tokens("the next secret, also long enough", Lifetimes(), others=[SECRET])
    assert new.read(old, ACCESS).user_id == ANN
    with pytest.raises(TokenInvalid):
        TOKENS.read(new.access(ANN, SESSION), ACCESS)


@given(st.one_of(st.binary(max_size=300), st.from_regex(rb"[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*")))
def test_any_header_is_refused_and_nothing_worse(value: bytes) -> None:
    for header in (value, b"Bearer " + value):
        with pytest.raises((NotAuthenticated, TokenInvalid)):
            TOKENS.caller(header)


@pytest.mark.parametrize("header", [b"[" * 1400, b'{"alg":"HS256","typ":"at+jwt","kid":["a"]}', b'{"kid":{}}', b"1"])
def test_hostile_headers_of_tokens(header: bytes) -> None:
    encoded = jwt.utils.base64url_encode(header)
    with pytest.raises(Refusal) as refused:
        TOKENS.caller(b"Bearer " + encoded + b".e30.AAAA")
    assert refused.value.code == "token_invalid"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_MAX", 3)
    tokens = Tokens(SECRET, Lifetimes())
    headers = [f"Bearer {tokens.access(uuid4(), uuid4())}".encode() for _ in range(5)]
    callers = [tokens.caller(header) for header in headers]
    assert list(tokens._remembered) == headers[2:]
    assert {header for each in tokens._remembered_of.values() for header in each} == set(headers[2:])
    assert [tokens.caller(header) for header in headers] == callers


def test_a_token_that_is_padded_in_many_ways_is_let_in_and_takes_no_memory() -> None:
    tokens = Tokens(SECRET, Lifetimes())
    token = tokens.access(ANN, SESSION).encode()
    for padding in (b" ", b" " * 30_000, b"\t"):
        for authorization in (b"Bearer " + padding + token, b"Bearer " + token + padding):
            assert tokens.caller(authorization).user_id == ANN
    for signature in (b"=", b"====", b"!"):  # base64 may end in them, or have them in it, as Python reads it
        with suppress(TokenInvalid):
            tokens.caller(b"Bearer " + token + signature)
    assert tokens._remembered == {}
    tokens.caller(b"Bearer " + token)
    assert len(tokens._remembered) == 1


def test_a_remembered_token_expires_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(SECRET, Lifetimes(access_seconds=5))
    header = f"Bearer {tokens.access(ANN, SESSION)}".encode()
    assert tokens.caller(header).user_id == ANN
    monkeypatch.setattr(auth, "time", lambda: time() + 6)
    with pytest.raises(TokenExpired):
        tokens.caller(header)
    assert not tokens._remembered
    assert not tokens._remembered_of


def test_a_revoked_session_is_refused_remembered_or_not_and_no_other_is() -> None:
    tokens = Tokens(SECRET, Lifetimes())
    session, other = uuid4(), uuid4()
    mine = [f"{scheme} {tokens.access(ANN, session)}".encode() for scheme in ("Bearer", "bearer")]
    fresh, others = (f"Bearer {tokens.access(ANN, each)}".encode() for each in (session, other))
    for header in (*mine, others):
        assert tokens.caller(header).user_id == ANN
    tokens.revoke([session])
    assert list(tokens._remembered) == [others]
    for header in (*mine, fresh):
        with pytest.raises(TokenInvalid):
            tokens.caller(header)
    assert tokens.caller(others).session_id == other


def test_a_revocation_is_forgotten_when_its_tokens_have_expired_by_any_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's clock that was ahead for a moment forgets nothing, and one that steps back revives no token."""
    tokens = Tokens(SECRET, Lifetimes(access_seconds=5))
    tokens.revoke([SESSION])
    for ahead, elapsed, kept in ((55, 55, True), (40 * 86_400, 1, True), (-3600, 66, True), (66, 66, False)):
        monkeypatch.setattr(auth, "time", lambda ahead=ahead: time() + ahead)
        monkeypatch.setattr(auth, "monotonic", lambda elapsed=elapsed: monotonic() + elapsed)
        tokens.revoke([])
        assert (SESSION in tokens._revoked) == kept


def test_hosts_whose_clocks_differ_by_a_minute_let_in_who_has_a_token_of_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = Tokens(SECRET, Lifetimes()), Tokens(SECRET, Lifetimes())
    for ahead in range(-61, 60):
        with monkeypatch.context() as patch:
            patch.setattr(auth, "time", lambda ahead=ahead: time() + ahead)
            access, refresh = there.access(ANN, SESSION), there.refresh(ANN, uuid4())
        assert here.read(access, ACCESS).user_id == here.read(refresh, REFRESH).user_id == ANN
        assert here.caller(f"Bearer {access}".encode()).session_id == SESSION
    for ahead in (62, 3600, 40 * 86_400):
        with monkeypatch.context() as patch:
            patch.setattr(auth, "time", lambda ahead=ahead: time() + ahead)
            access, refresh = there.access(ANN, SESSION), there.refresh(ANN, uuid4())
        for token, kind in ((access, ACCESS), (refresh, REFRESH)):
            with pytest.raises(TokenInvalid):
                here.read(token, kind)
