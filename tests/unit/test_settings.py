"""What the environment may say, and how it is told that it is wrong."""

import os
from pathlib import Path

import pytest
from msgspec.structs import asdict

from app.commands.env_example import env_example
from app.environment import SettingsError, complete_environment
from app.settings import Settings, load_settings, variables
from tasks.settings import DEVELOPMENT_SECRET

URLS = {"DATABASE_URL": "postgresql://u:hidden-word@db/wallet", "REDIS_URL": "redis://:hidden-word@redis/0"}
PRODUCTION = URLS | {
    "WALLET_ENVIRONMENT": "production",
    "WALLET_SECRET": "0123456789abcdef0123456789abcdef",
    "WALLET_SMTP_HOST": "mail.example.com",
}


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(environ)
    said = str(refused.value)
    assert "\n" not in said
    assert "hidden-word" not in said
    return said


def test_defaults_are_those_of_the_structs() -> None:
    expected = Settings(database_url=URLS["DATABASE_URL"], redis_url=URLS["REDIS_URL"])
    assert load_settings(URLS) == expected


def test_a_variable_reaches_its_rooms_struct() -> None:
    settings = load_settings(
        URLS
        | {"WALLET_BANK_LANES": "3", "WALLET_LOCKS_LEASE_SECONDS": "1.5", "WALLET_SMTP_TLS": "implicit"}
        | {"WALLET_RATES_MAX_CHANGE_PERCENT": "7.5", "WALLET_PHONE_REGION": "DE"}
    )
    assert settings.bank.lanes == 3
    assert settings.locks.lease_seconds == 1.5
    assert settings.smtp.tls == "implicit"
    assert str(settings.rates.max_change_percent) == "7.5"
    assert settings.phone_region == "DE"


def test_every_field_of_every_group_has_a_variable_of_its_own() -> None:
    names = [name for name, _, _ in variables()]
    groups = [value for value in asdict(Settings()).values() if hasattr(value, "__struct_fields__")]
    plain = len(Settings.__struct_fields__) - len(groups)
    assert groups
    assert len(set(names)) == len(names) == plain + sum(len(group.__struct_fields__) for group in groups)


def test_set_to_nothing_is_unset() -> None:
    assert load_settings(URLS | {"WALLET_BANK_LANES": "", "WALLET_SECRET": ""}).secret == DEVELOPMENT_SECRET


def test_an_unknown_variable_is_named_and_the_nearest_known_one_suggested() -> None:
    assert "WALLET_BANK_LANE is not a setting. Did you mean WALLET_BANK_LANES?" in refusal(
        URLS | {"WALLET_BANK_LANE": "1"}
    )
    assert "Did you mean" not in refusal(URLS | {"WALLET_QQQQQQQQQQQQ": "1"})


def test_other_peoples_variables_are_none_of_our_business() -> None:
    assert load_settings(URLS | {"HOME": "/root", "WALLETS": "2"})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WALLET_BANK_LANES", "three", "a whole number of at least 1, not 'three'"),
        ("WALLET_BANK_LANES", "1.5", "a whole number"),
        ("WALLET_BANK_LANES", "-1", "a whole number of at least 1"),
        ("WALLET_POOL_MAX_SIZE", "-1", "zero or more"),
        ("WALLET_LOCKS_LEASE_SECONDS", "soon", "a number, not 'soon'"),
        ("WALLET_LOCKS_LEASE_SECONDS", "nan", "zero or more"),
        ("WALLET_LOCKS_LEASE_SECONDS", "inf", "zero or more"),
        ("WALLET_RATES_MAX_CHANGE_PERCENT", "much", "a number"),
        ("WALLET_ENVIRONMENT", "staging", "one of development, production"),
        ("WALLET_SMTP_TLS", "yes", "one of none, starttls, implicit"),
        ("DATABASE_URL", "mysql://u:hidden-word@db/wallet", "postgresql://"),
        ("REDIS_URL", "hidden-word", "redis://"),
        ("WALLET_PUBLIC_URL", "wallet.example", "https://"),
        ("WALLET_SMS_URL", "gateway.example/send", "https://"),
        ("WALLET_PHONE_REGION", "kz", "two letters, such as KZ, not 'kz'"),
    ],
)
def test_a_bad_value_is_told_with_its_variable_and_what_is_expected(name: str, value: str, said: str) -> None:
    sentence = refusal(URLS | {name: value})
    assert name in sentence
    assert said in sentence


@pytest.mark.parametrize("name", URLS)
def test_missing_addresses_are_named(name: str) -> None:
    assert f"{name} is missing" in refusal({other: url for other, url in URLS.items() if other != name})


def test_only_what_is_needed_has_to_be_there() -> None:
    assert load_settings({}, needs=()).database_url == ""
    assert load_settings({"DATABASE_URL": URLS["DATABASE_URL"]}, needs=("DATABASE_URL",)).redis_url == ""


def test_production_with_everything_starts() -> None:
    assert not load_settings(PRODUCTION).development


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WALLET_SECRET", ""),
        ("WALLET_SECRET", DEVELOPMENT_SECRET),
        ("WALLET_SECRET", "0123456789abcdef0123456789abcde"),
        ("WALLET_SECRET", "ab" * 40),
        ("WALLET_RETIRED_SECRET", DEVELOPMENT_SECRET),
        ("WALLET_COMING_SECRET", DEVELOPMENT_SECRET),
        ("WALLET_RETIRED_SECRET", "0123456789abcdef0123456789abcde"),
        ("WALLET_COMING_SECRET", "0123456789abcdef0123456789abcde"),
        ("WALLET_RETIRED_SECRET", "ab" * 40),
        ("WALLET_COMING_SECRET", "ab" * 40),
        ("WALLET_SMTP_HOST", ""),
    ],
)
def test_production_refuses_weak_secrets_and_a_missing_mail_server(name: str, value: str) -> None:
    sentence = refusal(PRODUCTION | {name: value})
    assert name in sentence
    assert not value or value not in sentence


def test_production_refuses_to_send_the_mail_servers_password_in_the_clear() -> None:
    unencrypted = PRODUCTION | {"WALLET_SMTP_TLS": "none"}
    assert load_settings(unencrypted)  # a relay beside us, without a login
    login = {"WALLET_SMTP_USERNAME": "wallet", "WALLET_SMTP_PASSWORD": "hidden-word"}
    assert "WALLET_SMTP_TLS is none" in refusal(unencrypted | login)
    assert load_settings(
        unencrypted | login | {"WALLET_SMTP_HOST": "127.0.0.1"}
    )  # nor does it leave this machine there
    assert load_settings(PRODUCTION | login)


@pytest.mark.parametrize(
    ("url", "secret"), [("WALLET_SMS_URL", "WALLET_SMS_TOKEN"), ("WALLET_RATES_BASE_URL", "WALLET_RATES_API_KEY")]
)
def test_production_refuses_to_show_others_what_it_is_known_by(url: str, secret: str) -> None:
    known = PRODUCTION | {secret: "hidden-word"}
    assert f"{url} begins with http://" in refusal(known | {url: "http://gateway.example.com/send"})
    for allowed in ("https://gateway.example.com", "http://127.0.0.1:8080", "http://localhost"):
        assert load_settings(known | {url: allowed})
    assert load_settings(PRODUCTION | {url: "http://gateway.example.com"})
    assert load_settings(URLS | {secret: "hidden-word", url: "http://gateway.example.com"})


@pytest.mark.parametrize("name", ["LITESTAR_DEBUG", "LITESTAR_PDB", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE"])
def test_production_refuses_to_be_debugged(name: str) -> None:
    assert f"{name} is set" in refusal(PRODUCTION | {name: "1"})
    assert load_settings(PRODUCTION | {name: "0"})
    assert load_settings(URLS | {name: "1"})  # on somebody's own machine it is their business


def test_what_is_no_address_is_no_proxy() -> None:
    trusted = load_settings(URLS | {"WALLET_HTTP_TRUSTED_PROXIES": "10.1.2.3, 172.16.0.0/12,fd00::/8,"}).http.proxies
    assert trusted == ["10.1.2.3", "172.16.0.0/12", "fd00::/8"]
    for nobody in ("*", "proxy", "10.1.2.3/8"):
        assert "WALLET_HTTP_TRUSTED_PROXIES: " in refusal(URLS | {"WALLET_HTTP_TRUSTED_PROXIES": nobody})


def test_the_environment_wins_over_a_file_and_a_file_over_a_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".wallet").mkdir()
    (tmp_path / ".wallet/env").write_text("DATABASE_URL=running\nREDIS_URL=running\n")
    (tmp_path / ".env").write_text("# ours\nREDIS_URL=file\nWALLET_PHONE_REGION='DE'\nWALLET_SMTP_PASSWORD=a$HOME#b\n")
    for name in ("DATABASE_URL", "REDIS_URL", "WALLET_SMTP_PASSWORD"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("WALLET_PHONE_REGION", "FR")
    complete_environment(tmp_path)
    assert os.environ["DATABASE_URL"] == "running"
    assert os.environ["REDIS_URL"] == "file"
    assert os.environ["WALLET_PHONE_REGION"] == "FR"
    assert os.environ["WALLET_SMTP_PASSWORD"] == "a$HOME#b"


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WALLET_PHONE_REGION=KZ\nhidden-word\n")
    with pytest.raises(SettingsError, match="Line 2 of") as refused:
        complete_environment(tmp_path)
    assert "hidden-word" not in str(refused.value)


def test_the_example_file_is_true() -> None:
    example = Path(__file__).parents[2] / ".env.example"
    assert example.read_text() == env_example(), (
        "write it anew: .venv/bin/python -m app.commands.env_example > .env.example"
    )


def test_every_setting_says_what_it_means() -> None:
    lines = env_example().splitlines()
    assert [name for name, _, _ in variables() if sum(line.startswith(f"# {name}=") for line in lines) != 1] == []
