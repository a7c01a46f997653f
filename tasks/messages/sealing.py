"""Codes at rest: readable with the application's secret only."""

from base64 import urlsafe_b64encode
from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class NotOurs(Exception):
    """What was sealed can't be opened: it was changed, or sealed under another secret."""


class Seal:
    """
    Encrypts and authenticates short texts (Fernet) under a key of its own, derived from the secret (RFC 5869).

    It also opens what was sealed under the `others`.
    """

    def __init__(self, secret: str, *, others: Iterable[str] = ()) -> None:
        self._fernet = MultiFernet([_fernet(each) for each in (secret, *others)])

    def close(self, text: str) -> bytes:
        """The text, encrypted so that it may be stored."""
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """
        What was sealed.

        Raises:
            NotOurs: it was changed, or sealed under a secret that is none of these.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise NotOurs("sealed under another secret") from None


def _fernet(secret: str) -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"wallet: codes in messages").derive(secret.encode())
    return Fernet(urlsafe_b64encode(key))
