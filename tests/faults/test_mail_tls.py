"""Mail is encrypted as configured, and only for a server that proves who it is."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from tasks.messages import mail
from tasks.messages.mail import NotSent, Smtp, send_mail
from tasks.messages.templates import write
from tests.helpers.third_parties import mail_server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost with its key, in one file."""
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
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "localhost.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_server_that_is_trusted_gets_the_message_encrypted(
    tls: Literal["starttls", "implicit"],
    certificate: Path,
    server_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mail, "_warned", set())
    async with mail_server(tls, server_tls) as server:
        smtp = Smtp(host="localhost", port=server.port, tls=tls)
        await mail.look_at_certificate(smtp)
        said = "the certificate of the mail server localhost is not accepted (self-signed certificate)"
        assert caplog.text.count(said) == 1, "at start"
        for _ in range(2):
            with pytest.raises(NotSent, match=r"could not be used: .* \(self-signed certificate\)") as refused:
                await send_mail(smtp, to="a@x.kz", letter=write("welcome", {}), reference="1")
            assert not refused.value.permanent
        assert caplog.text.count(said) == 1, "not with each message"
        assert server.accepted == []
        with pytest.raises(NotSent):
            await send_mail(replace(smtp, host="127.0.0.1"), to="a@x.kz", letter=write("welcome", {}), reference="1")
        assert caplog.text.count("is not accepted") == 2, "of another server too"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await mail.look_at_certificate(smtp)
        await send_mail(smtp, to="a@x.kz", letter=write("welcome", {}), reference="1")
        assert [to for to, _ in server.accepted] == ["a@x.kz"]
