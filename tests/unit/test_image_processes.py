"""An image is decoded by a process that may use so much and no more, knows nothing, and never stays behind."""

import asyncio
import os
import socket
import struct
import zlib
from collections.abc import Callable, Coroutine, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvloop
from PIL import Image

from actors.refusals import Overloaded
from app.http.problems import ValidationFailed
from app.people.images import child, decoding
from app.people.images.child import ImagesUnavailable, decoded
from app.people.images.decoding import JPEG_PIXELS_MAX, PIXELS_MAX, TooManyPixels, Unreadable, reencoded
from app.people.images.keeping import Images
from app.people.images.turns import Turns
from tests.helpers.images import costly_jpeg, decoders, gone, picture
from tests.helpers.processes import needs_linux
from tests.helpers.waiting import GIVE_UP_SECONDS, until


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    yield
    assert decoders(os.getpid()) == set()


async def refusal(content: bytes) -> str:
    with pytest.raises(ValidationFailed) as refused:
        await decoded(content)
    (error,) = refused.value.errors
    assert error.field == "profile_image"
    return error.message


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Run this in the decoder's place."""
    (folder / "program.py").write_text(source)
    monkeypatch.setattr(child, "PROGRAM", folder / "program.py")


@pytest.mark.parametrize("form", decoding.FORMATS)
async def test_the_process_gives_what_the_decoder_gives(form: str) -> None:
    content = picture(form, size=(3000, 1000))
    clean = await decoded(content)
    assert (clean.form, clean.content) == reencoded(content)


async def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 1)
    assert "takes too long" in await refusal(costly_jpeg())


@needs_linux
async def test_what_takes_too_much_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    content = picture("PNG", size=(4000, 4000))
    monkeypatch.setattr(child, "MEMORY_BYTES", 64 * 1024 * 1024)
    assert "takes too long" in await refusal(content)
    assert (await decoded(picture())).form == "PNG"


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"])
async def test_a_decoder_that_crashes_is_the_images_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    crash = f"import os, signal; signal.signal(signal.{signal}, signal.SIG_DFL); os.kill(os.getpid(), signal.{signal})"
    program(tmp_path, monkeypatch, crash)
    assert "can't be read" in await refusal(b"x" * 1_000_000)


async def test_what_writes_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "import sys\nwhile True: sys.stdout.buffer.write(b'x' * 65536)")
    assert "takes too long" in await refusal(picture())


@pytest.mark.parametrize("source", ["import no_such_module", "print('GIF')", "", "import sys; sys.exit(3)"])
async def test_a_program_that_does_not_work_is_our_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    program(tmp_path, monkeypatch, source)
    with pytest.raises(ImagesUnavailable):
        await decoded(picture())
    assert "program.py" in caplog.text


async def test_an_operators_lower_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lower = f"""import resource, runpy
resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
runpy.run_path({str(child.PROGRAM)!r}, run_name="__main__")"""
    program(tmp_path, monkeypatch, lower)
    assert (await decoded(picture())).form == "PNG"


async def test_a_python_that_is_gone_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(ImagesUnavailable):
        await decoded(picture())


async def test_a_machine_that_is_too_busy_is_not_the_images_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "WALL_SECONDS", 0.2)
    program(tmp_path, monkeypatch, "import time; time.sleep(3600)")
    with pytest.raises(Overloaded):
        await decoded(b"x" * 1_000_000)


@needs_linux
async def test_the_process_is_told_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_SECRET", "secret")
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    program(
        tmp_path,
        monkeypatch,
        "import os, sys; open_files = sorted(os.listdir('/proc/self/fd'))\n"
        "print('PNG\\n', sorted(os.environ), open_files, os.getcwd(), [p for p in sys.path if 'site' in p])",
    )
    told = (await decoded(picture())).content.decode()
    assert "SECRET" not in told
    assert "DATABASE_URL" not in told
    # 3 is what lists them.
    assert "['0', '1', '2', '3'] / " in told


@needs_linux
async def test_who_stops_waiting_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 3600)
    waiting = asyncio.create_task(decoded(costly_jpeg()))
    await until(lambda: bool(decoders(os.getpid())))
    pids = decoders(os.getpid())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gone(pids)


@needs_linux
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_neither_side_keeps_a_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    def open_files(pid: int | str = "self") -> set[str]:
        return {each.name for each in Path(f"/proc/{pid}/fd").iterdir()}

    def only_its_own() -> bool:
        (pid,) = decoders(os.getpid())
        return open_files(pid) == {"0", "1", "2"}

    async def scenario() -> None:
        await decoded(picture())  # event loops open some of their own when first used
        before = len(open_files())
        listener = socket.socket()
        listener.set_inheritable(True)  # as a worker's of several
        waiting = asyncio.create_task(decoded(costly_jpeg()))
        await until(lambda: bool(decoders(os.getpid())))
        await until(only_its_own)
        waiting.cancel()
        await asyncio.wait([waiting])
        listener.close()
        program(tmp_path, monkeypatch, "import sys\nwhile True: sys.stdout.buffer.write(b'x' * 65536)")
        await refusal(b"x")
        await until(lambda: len(open_files()) == before)

    run(scenario())


def png_head(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + head + zlib.crc32(head).to_bytes(4) + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    )


def jpeg_head(width: int, height: int) -> bytes:
    out = BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    content = bytearray(out.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content[: content.index(b"\xff\xda")])


def webp_head(width: int, height: int) -> bytes:
    frame = b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + b"\0" * 40
    return b"RIFF" + struct.pack("<I", len(frame) + 12) + b"WEBPVP8 " + struct.pack("<I", len(frame)) + frame


@pytest.mark.parametrize(
    ("head", "most"), [(png_head, PIXELS_MAX), (webp_head, PIXELS_MAX), (jpeg_head, JPEG_PIXELS_MAX)]
)
@pytest.mark.parametrize("width", [5_000, 7_216, 12_000])
def test_pixels_are_counted_before_they_are_decoded(head: Callable[[int, int], bytes], most: int, width: int) -> None:
    with pytest.raises(TooManyPixels):
        reencoded(head(width, most // width + 1))
    with pytest.raises(Unreadable):  # looked into, and there is nothing
        reencoded(head(width, most // width))
    with pytest.raises(TooManyPixels):
        reencoded(head(12_001, 1))


def test_a_phones_camera_and_a_progressive_one_pass() -> None:
    for options in ({}, {"progressive": True}):
        form, content = reencoded(picture("JPEG", size=(8192, 6144), **options))
        assert (form, Image.open(BytesIO(content)).size) == ("JPEG", (2048, 1536))


async def test_turns_are_fair() -> None:
    turns = Turns(count=2, waiting_max=3, wait_seconds=3600)
    ann, *others = (uuid4() for _ in range(6))
    order: list[UUID] = []
    end = asyncio.Event()

    async def have_a_turn(person: UUID) -> None:
        async with turns.turn(person):
            order.append(person)
            await end.wait()

    async def refused(person: UUID) -> None:
        with pytest.raises(Overloaded):
            await asyncio.wait_for(have_a_turn(person), GIVE_UP_SECONDS)

    under_way = [asyncio.create_task(have_a_turn(person)) for person in (ann, *others[:3])]
    await until(lambda: len(order) == 2)
    await refused(ann)
    await refused(others[2])  # waits for a turn, which is as good as having one
    under_way.append(asyncio.create_task(have_a_turn(others[3])))
    await asyncio.sleep(0)
    await refused(others[4])  # as many wait as may
    under_way[3].cancel()  # one who waits goes away, and makes room for another
    await asyncio.wait(under_way[3:4])
    under_way[3] = asyncio.create_task(have_a_turn(others[4]))
    await asyncio.sleep(0)
    end.set()
    await asyncio.gather(*under_way)
    assert order == [ann, others[0], others[1], others[3], others[4]]
    await have_a_turn(ann)


async def test_who_had_a_long_turn_rests_ten_times_as_long_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("app.people.images.turns.monotonic", lambda: now)
    turns = Turns(count=1, waiting_max=3, wait_seconds=3600)
    ann, ben = uuid4(), uuid4()

    async def have_a_turn(person: UUID, seconds: float) -> None:
        nonlocal now
        async with turns.turn(person):
            now += seconds

    for person, seconds in ((ann, 2.9), (ann, 6.0), (ben, 1.0)):
        await have_a_turn(person, seconds)
    with pytest.raises(Overloaded, match="in 59 seconds") as refused:
        await have_a_turn(ann, 0)
    assert refused.value.headers == {"Retry-After": "59"}
    now += 59
    await have_a_turn(ann, 0)


async def test_nobody_waits_for_long() -> None:
    turns = Turns(count=1, waiting_max=3, wait_seconds=0.01)
    async with turns.turn(uuid4()):
        person = uuid4()
        for _ in range(2):
            with pytest.raises(Overloaded):
                async with turns.turn(person):
                    raise AssertionError("there is none")
    async with turns.turn(person):
        pass


async def test_a_folder_that_cannot_be_written_is_no_lost_database(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("not a folder")
    images = Images(tmp_path / "media")
    try:
        clean = await images.read(picture(), user_id=uuid4())
        with pytest.raises(ImagesUnavailable):
            await images.keep(clean)
    finally:
        images.close()
