"""Codes at rest: readable with the application's secret only."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class NotOurs(Exception):
    """What was sealed can't be opened: it was changed, or sealed under another secret."""


class Seal:
    """Encrypts and authenticates short texts (Fernet) under a key of its own, derived from the secret (RFC 5869)."""

    def __init__(self, secret: str) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"wallet: codes in messages").derive(secret.encode())
        self._fernet = Fernet(urlsafe_b64encode(key))

    def close(self, text: str) -> bytes:
        """The text, encrypted so that it may be stored."""
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """
        What was sealed.

        Raises:
            NotOurs: it was changed, or the secret is another one now.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise NotOurs("sealed under another secret") from None
