"""A media folder that is full, missing or out of reach: nobody takes it for a lost database, and readiness names it."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.people.images import keeping
from app.settings import Settings
from app.telemetry import metrics
from tasks.upkeep import forget_images
from tests.helpers.images import kept, picture, upload
from tests.helpers.refusals import refusal
from tests.helpers.users import Member


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """No file may have more than ten bytes: to this process the disk is as good as full, whoever runs it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def missing(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder)
    yield
    folder.mkdir()


@contextmanager
def not_a_folder(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    yield
    folder.unlink()
    folder.mkdir()


@contextmanager
def out_of_reach(folder: Path) -> Iterator[None]:
    """Every access to what is in it fails, though it is neither missing nor of another kind."""
    shutil.rmtree(folder)
    folder.symlink_to(folder)
    yield
    folder.unlink()
    folder.mkdir()


TROUBLES = {full: "full", missing: "missing", not_a_folder: "not a folder", out_of_reach: "can't be written"}


async def test_it_is_named_by_uploads_readiness_and_metrics_and_it_passes(
    client: httpx.AsyncClient,
    ann: Member,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(keeping, "TRIED_AGAIN_SECONDS", 0)
    monkeypatch.setattr(metrics, "FRESH_SECONDS", 0)
    folder, image = Path(settings.media_folder), os.urandom(600) + bytes(2_000_000)
    for trouble, sentence in TROUBLES.items():
        with trouble(folder):
            for _ in range(3):
                told = refusal(await upload(client, ann, picture()), 503, "unavailable")
                assert "storage of profile images" in told["detail"], trouble
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
            checks = answer.json()["checks"]
            assert (checks["database"]["status"], checks["media"]["status"]) == ("ok", "degraded")
            assert sentence in checks["media"]["detail"]
            assert 'wallet_part_up{part="media"} 0.0' in (await client.get("/metrics")).text
            if trouble is full:  # so large an upload waits on the disk
                refusal(await upload(client, ann, image), 503, "unavailable")
            if trouble is out_of_reach:
                refusal(await client.get(f"/media/{'0' * 32}.png"), 503, "unavailable")
            assert await forget_images(folder, datetime.now(UTC)) == 0
            assert (await ann.request("GET", "/users/")).status_code == 200
        assert (await client.get("/health/ready")).json()["checks"]["media"]["status"] == "ok"
        assert (await upload(client, ann, picture())).status_code == 200, "by itself"
        assert [path.suffix for path in kept(settings)] == [".png"], "no half of a file is left"
    assert not [record for record in caplog.records if record.exc_info]
    assert sum("can't keep an image" in record.message for record in caplog.records) == 1, "not one an upload"


@pytest.fixture
def no_folder(settings: Settings) -> None:
    Path(settings.media_folder).write_text("not a folder")


@pytest.mark.usefixtures("no_folder")
async def test_a_start_without_it_says_so_in_one_sentence_and_serves(
    caplog: pytest.LogCaptureFixture, ann: Member
) -> None:
    (said,) = (record.getMessage() for record in caplog.get_records("setup") if "MEDIA" in record.getMessage())
    assert "It is not a folder." in said
    await ann.open_wallet(holding="1")
