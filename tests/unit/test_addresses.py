"""Which addresses are a trusted proxy's, in whatever form either was written."""

import pytest

from app.server.addresses import ForwardedFor, plain


@pytest.mark.parametrize(
    ("trusted", "address", "is_trusted"),
    [
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:a01:203", True),
        ("10.0.0.0/8", "::ffff:11.1.2.3", False),
        ("10.0.0.0/8", "::10.1.2.3", False),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3", False),
        ("10.0.0.0/8", "2002:a01:203::", False),
        ("10.1.2.3", "::ffff:10.1.2.3", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:0:0/96", "11.1.2.3", True),
        ("::/0", "::ffff:11.1.2.3", True),
        ("::/0", "2001:db8::1", True),
        ("2001:db8::/32", "2001:DB8::1", True),
        ("2001:db8::/32", "10.1.2.3", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("10.0.0.0/8", "", False),
        ("10.0.0.0/8", "nonsense", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3.4", False),
    ],
)
def test_a_proxy_is_known_in_either_form(trusted: str, address: str, is_trusted: bool) -> None:
    assert (address in ForwardedFor(None, [trusted]).trusted_hosts) is is_trusted


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("0:0:0:0:0:FFFF:c000:201", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("nonsense", "nonsense"),
        ("", ""),
    ],
)
def test_an_address_is_shown_as_everybody_writes_it(address: str, shown: str) -> None:
    assert plain(address) == shown
