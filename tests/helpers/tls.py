"""TLS without a certificate authority: self-signed certificates, and a front for a server that speaks plainly."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Meet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def self_signed(file: Path, *, valid: timedelta = timedelta(hours=1)) -> Path:
    """Write a certificate for localhost, and its key, into one file."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def server_context(certificate: Path) -> ssl.SSLContext:
    """What a server shows this certificate with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@asynccontextmanager
async def tls_front(url: str, certificate: Path) -> AsyncIterator[int]:
    """The port of a server that takes TLS off, and passes everything on to the server of this URL."""
    behind = urlsplit(url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(65536):
                writer.write(said)
                await writer.drain()
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))

    async with _listening(meet, server_context(certificate)) as port:
        yield port


@asynccontextmanager
async def somebody_else(greeting: bytes, answer: bytes) -> AsyncIterator[int]:
    """The port of a server that is neither PostgreSQL nor Redis."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(greeting)
            await writer.drain()
            await reader.read(1024)
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with _listening(meet) as port:
        yield port


@asynccontextmanager
async def postgres_door(certificate: Path | None = None) -> AsyncIterator[int]:
    """
    The port of a PostgreSQL as far as its door: with this certificate, or without TLS.

    Without TLS it lets nobody in.
    """
    refusal = b"\0".join((b"SFATAL", b"VFATAL", b"C28000", b"Mno pg_hba.conf entry for host", b"\0"))

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if (await reader.readexactly(8))[4:] != _SSL_REQUEST:
                writer.write(b"E" + (len(refusal) + 4).to_bytes(4, "big") + refusal)
                await writer.drain()
            elif certificate:
                writer.write(b"S")
                await writer.start_tls(server_context(certificate))
            else:
                writer.write(b"N")
                await writer.drain()
        writer.close()

    async with _listening(meet) as port:
        yield port


@asynccontextmanager
async def _listening(meet: Meet, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that does this with each connection."""
    listening = await asyncio.start_server(meet, "localhost", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


_SSL_REQUEST = (80877103).to_bytes(4, "big")
HTTP = (b"", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
SMTP = (b"220 mail.example ESMTP\r\n", b"500 What?\r\n")
