"""Mail is encrypted as configured, and only for a server that proves who it is."""

import ssl
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from tasks.messages import mail
from tasks.messages.mail import NotSent, Smtp, send_mail
from tasks.messages.templates import write
from tests.helpers.third_parties import mail_server
from tests.helpers.tls import self_signed, server_context


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed(tmp_path / "localhost.pem")


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    return server_context(certificate)


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
