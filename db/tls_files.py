"""The files that an address names, mostly for TLS: whether they can be read, and are what they are taken for."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError

Named = Mapping[str, str]
"""Parameters of an address, of which some are the paths of files."""


def unreadable(named: Named, names: Iterable[str]) -> str | None:
    """A sentence about the first of these that is no file, or none that we may read."""
    for name in names:
        if (file := named.get(name)) and not (Path(file).is_file() and os.access(file, os.R_OK)):
            return f"{name} names a file that can't be read: {file}."
    return None


def no_certificate(named: Named, names: Iterable[str]) -> str | None:
    """A sentence about the first of these that holds no certificate, nor a list of revoked ones."""
    for name in names:
        if file := named.get(name):
            try:
                SSLContext(PROTOCOL_TLS_CLIENT).load_verify_locations(file)
            except (SSLError, ValueError):
                return f"{name} names a file without a certificate: {file}."
    return None


def not_its_key(named: Named, certificate: str, key: str, password: str, elsewhere: str | None = None) -> str | None:
    """
    A sentence about a key that is not that of the certificate; the last three are the parameters' names.

    Where none names the key, it is `elsewhere`, or in the file of the certificate.
    """
    if not (file := named.get(certificate)):
        return None
    opens = named.get(password, "")
    try:
        SSLContext(PROTOCOL_TLS_CLIENT).load_cert_chain(file, named.get(key) or elsewhere, lambda: opens)
    except (SSLError, ValueError):
        if key in named:
            return f"{key} names no key of the certificate in {certificate}, or {password} does not open it."
        return f"{certificate} needs its key: name the file by {key}."
    return None
