"""What is done to signed tokens (RFC 8725): none of it signs anybody in."""

import json
from collections.abc import Callable
from time import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.auth.tokens import ACCESS, REFRESH, Lifetimes, TokenExpired, TokenInvalid, Tokens

SECRET = "a secret of the tests, long enough"
RETIRED = "the secret before, also long enough"
TOKENS = Tokens(SECRET, Lifetimes(), others=[RETIRED])
(KEY_ID, KEY), (RETIRED_ID, RETIRED_KEY) = TOKENS._keys.items()
ANN = uuid4()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time())
    ours = {"iss": "wallet", "aud": "wallet", "sub": str(ANN), "jti": str(uuid4()), "iat": now, "exp": now + 60}
    ours |= {"sid": str(uuid4())}
    return ours | changes


def signed(key: Any = KEY, algorithm: str = "HS256", changes: dict[str, Any] | None = None, **header: Any) -> str:
    headers = {"typ": ACCESS, "kid": KEY_ID} | header
    return jwt.encode(claims(**changes or {}), key, algorithm=algorithm, headers=headers)


def raw(header: str, payload: str, key: bytes = KEY) -> str:
    """Signed as it is written, which no library would write."""
    parts = [jwt.utils.base64url_encode(each.encode()) for each in (header, payload)]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(b".".join(parts), key)
    return b".".join([*parts, jwt.utils.base64url_encode(signature)]).decode()


HEADER = json.dumps({"alg": "HS256", "typ": ACCESS, "kid": KEY_ID})
KIDS = ["", "../../../../dev/null", "/dev/null", "' UNION SELECT 'x", "00000000", KEY_ID.upper(), f"{KEY_ID} ", "\x00"]
ATTACKS: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: signed("", "none"),
    "no algorithm, and the signature of another": lambda: signed("", "none") + signed().rsplit(".", 1)[1],
    "no algorithm, oddly written": lambda: raw(HEADER.replace("HS256", "nOnE"), json.dumps(claims())),
    "a signature that was cut off": lambda: signed().rsplit(".", 1)[0] + ".",
    "a key pair of the attacker's": lambda: signed(RSA, "RS256"),
    "a public key used as a secret": lambda: raw(HEADER, json.dumps(claims()), PUBLIC),
    "a longer hash": lambda: signed(KEY * 2, "HS512"),
    "an empty secret": lambda: raw(HEADER, json.dumps(claims()), b""),
    "the key's own name as the secret": lambda: signed(KEY_ID.encode() * 4),
    "the secret itself, not the key that is made of it": lambda: signed(SECRET.encode()),
    "another key under our name, which the header brings along": lambda: signed(
        b"k" * 32, jwk={"kty": "oct", "k": jwt.utils.base64url_encode(b"k" * 32).decode()}
    ),
    "another key under our name, to be had from a URL": lambda: signed(
        b"k" * 32, jku="http://127.0.0.1:9/keys", x5u="http://127.0.0.1:9/keys"
    ),
    "the retired key under the present one's name": lambda: signed(RETIRED_KEY),
    "the present key under the retired one's name": lambda: signed(kid=RETIRED_ID),
    "no key's name": lambda: raw(json.dumps({"alg": "HS256", "typ": ACCESS}), json.dumps(claims())),
    "no kind": lambda: signed(typ=None),
    "an ordinary kind": lambda: signed(typ="JWT"),
    "the other kind": lambda: signed(typ=REFRESH),
    "a kind in capitals": lambda: signed(typ="AT+JWT"),
    "not yet valid": lambda: signed(changes={"nbf": int(time()) + 3600}),
    "issued tomorrow": lambda: signed(changes={"iat": int(time()) + 86_400}),
    "for somebody else": lambda: signed(changes={"aud": ["other", "another"]}),
    "of somebody else": lambda: raw(HEADER, json.dumps(claims(iss=["other"]))),
    "an end that is no number": lambda: signed(changes={"exp": "tomorrow"}),
    "an end that never comes": lambda: raw(HEADER, json.dumps(claims(exp=float("inf")))),
    "a subject that is a list": lambda: raw(HEADER, json.dumps(claims(sub=[str(ANN)]))),
    "claims that are a list": lambda: raw(HEADER, json.dumps([claims()])),
    "a critical extension": lambda: signed(crit=["x"], x=1),
    "a payload outside of the token": lambda: raw(HEADER[:-1] + ', "b64": false, "crit": ["b64"]}', "{}"),
    **{f"the kid {kid!r}": lambda kid=kid: signed(kid=kid) for kid in KIDS},  # type: ignore[misc]
}


def test_what_is_not_attacked_is_let_in() -> None:
    assert TOKENS.read(signed(), ACCESS).user_id == ANN
    assert TOKENS.read(signed(RETIRED_KEY, kid=RETIRED_ID), ACCESS).user_id == ANN
    assert TOKENS.read(raw(HEADER, json.dumps(claims())), ACCESS).user_id == ANN


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attacked_token_is_refused(attack: Callable[[], str]) -> None:
    token = attack()
    with pytest.raises(TokenInvalid):
        TOKENS.read(token, ACCESS)
    with pytest.raises(TokenInvalid):
        TOKENS.caller(f"Bearer {token}".encode())


def test_a_retired_key_that_is_gone_opens_nothing() -> None:
    old = Tokens(RETIRED, Lifetimes()).access(ANN, uuid4())
    assert TOKENS.read(old, ACCESS).user_id == ANN
    with pytest.raises(TokenInvalid):
        Tokens(SECRET, Lifetimes()).read(old, ACCESS)


def test_of_a_claim_that_is_said_twice_what_is_checked_is_what_is_used() -> None:
    """Only who has the key can write it; should anybody, there are not two readings of it."""
    twice = json.dumps(claims())[:-1] + f', "sub": "{uuid4()}", "exp": 1' + "}"
    with pytest.raises(TokenExpired):
        TOKENS.read(raw(HEADER, twice), ACCESS)
