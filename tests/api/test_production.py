"""What production does not have."""

import pytest

from app.main import create_app
from app.settings import Settings
from tests.helpers.production import in_production


@pytest.fixture
def production(settings: Settings) -> Settings:
    return in_production(settings)


def paths(settings: Settings) -> set[str]:
    return {route.path for route in create_app(settings).routes}


async def test_no_development_route_exists(settings: Settings, production: Settings) -> None:
    development = {path for path in paths(settings) if path.startswith("/dev")}
    assert development
    assert paths(production) == paths(settings) - development


async def test_the_environment_cannot_switch_debugging_on(
    production: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITESTAR_DEBUG", "1")
    monkeypatch.setenv("LITESTAR_PDB", "1")
    app = create_app(production)
    assert app.debug is False
    assert app.pdb_on_exception is False
