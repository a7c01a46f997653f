"""DATABASE_URL, before it is used: what the driver would take for something else, pass over, or tell with a secret."""

import os
import re
from configparser import ConfigParser, Error
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from db.errors import ESCAPING, ReadableError
from db.tls_files import Named, no_certificate, not_its_key, unreadable

_CERTIFICATES = ("sslrootcert", "sslcrl", "sslcert")
_FILES = (*_CERTIFICATES, "sslkey", "passfile")
_ANYBODY_ELSE = 0o077


class Unsuitable(ReadableError):
    """What DATABASE_URL names can't be worked with; the message says why, and shows nothing that is confidential."""


def check_database_url(database_url: str) -> None:
    """
    Look at the address and at the files that it names, and ask nobody.

    Raises:
        Unsuitable: a part of it can't be right.
    """
    try:
        parts = urlsplit(database_url)
        parameters = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise Unsuitable(f"DATABASE_URL is not a URL (its value is not shown here); {ESCAPING}.") from None
    if parts.scheme in ("postgresql", "postgres") and not re.match(r"\s*\w+://", database_url):
        raise Unsuitable(f"DATABASE_URL has to begin with {parts.scheme}://, with two slashes.")
    named = {name: values[-1] for name, values in parameters.items()}
    # The driver drops what follows a #, ends a password at its first @, and shows a name of a database that has one.
    secret_cut = "@" in parts.query and not ("@" in parts.netloc or parts.path or {"user", "password"} & named.keys())
    if parts.fragment or parts.netloc.count("@") > 1 or "@" in parts.path or secret_cut:
        raise Unsuitable(f"DATABASE_URL has a # or an @ where none can be; {ESCAPING}.")
    hosts = re.sub(r"\[[^\]]*\]", "", parts.netloc.rpartition("@")[2])
    ports = [host.partition(":")[2] for host in hosts.split(",")] + named.get("port", "").split(",")
    if not all(port.isascii() and port.isdecimal() and 0 < int(port) < 65536 for port in ports if port):
        raise Unsuitable(f"DATABASE_URL has a port that is no number from 1 to 65535; {ESCAPING}.")
    fault = _service_fault(named.get("service")) or _file_fault(named)
    if fault:
        raise Unsuitable(f"DATABASE_URL: {fault}")


def _service_fault(service: str | None) -> str | None:
    """The driver passes over a service that it does not find, and goes to this machine instead."""
    if service is None:
        return None
    file = os.environ.get("PGSERVICEFILE") or str(_at_home(".pg_service.conf"))
    services = ConfigParser()
    with suppress(Error, UnicodeError):
        services.read(file)
    if service in services.sections():
        return None
    return f"service is {service}, and no section of that name can be read in {file}."


def _file_fault(named: Named) -> str | None:
    if named.get("sslrootcert") == "system" and not Path("system").is_file():
        return (
            "sslrootcert=system is not supported: name the file of the system's certificates, such as"
            " /etc/ssl/certs/ca-certificates.crt."
        )
    if fault := unreadable(named, _FILES):
        return fault
    if (passwords := named.get("passfile")) and Path(passwords).stat().st_mode & _ANYBODY_ELSE:
        return f"passfile names a file that others may read, and is not used so: chmod 600 {passwords}."
    own_key = os.environ.get("PGSSLKEY") or _at_home(".postgresql/postgresql.key")
    elsewhere = str(own_key) if own_key and Path(own_key).exists() else None
    return no_certificate(named, _CERTIFICATES) or not_its_key(named, "sslcert", "sslkey", "sslpassword", elsewhere)


def _at_home(name: str) -> Path | None:
    """None for a user who has no home, as in some containers."""
    with suppress(RuntimeError):
        return Path.home() / name
    return None
