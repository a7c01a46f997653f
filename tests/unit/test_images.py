"""What is left of an uploaded image."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.people.images.child import Picture
from app.people.images.decoding import KEPT_SIDE_MAX, TooManyPixels, Unreadable, reencoded
from app.people.images.keeping import _store


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def kept_of(image: Image.Image, form: str, **options: Any) -> Image.Image:
    kept_form, content = reencoded(encoded(image, form, **options))
    assert kept_form == form
    return Image.open(BytesIO(content))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png(mode: str) -> None:
    kept = kept_of(Image.new(mode, (3, 2)), "PNG")
    assert (kept.size, kept.mode) == ((3, 2), "RGBA" if mode in {"LA", "RGBA"} else "RGB")


def test_print_colours_become_screen_colours() -> None:
    assert kept_of(Image.new("CMYK", (3, 2)), "JPEG").mode == "RGB"


def test_transparency_stays() -> None:
    image = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert kept_of(image, "PNG").getpixel((0, 0)) == (10, 20, 30, 0)
    assert kept_of(image, "WEBP", lossless=True).mode == "RGBA"


CORNERS = [(1, (0, 0)), (2, (3, 0)), (3, (3, 1)), (4, (0, 1)), (5, (0, 0)), (6, (1, 0)), (7, (1, 3)), (8, (0, 3))]


@pytest.mark.parametrize(("orientation", "corner"), CORNERS)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_the_image_is_turned_as_its_camera_was(form: str, orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (4 * 8, 2 * 8), "white")
    image.paste("black", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    kept = kept_of(image, form, exif=exif)
    assert kept.size == ((16, 32) if orientation >= 5 else (32, 16))
    pixel = kept.convert("L").getpixel((corner[0] * 8 + 4, corner[1] * 8 + 4))
    assert isinstance(pixel, int)
    assert pixel < 60
    assert not kept.getexif()


def test_a_moving_picture_keeps_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    kept = kept_of(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert getattr(kept, "n_frames", 1) == 1


def test_of_a_cameras_two_pictures_in_one_the_first_is_kept_as_what_it_is(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    name = _store(tmp_path, Picture(*reencoded(encoded(red, "MPO", save_all=True, append_images=[blue]))))
    assert name.endswith(".jpg")
    kept = Image.open(tmp_path / name)
    assert (kept.format, getattr(kept, "n_frames", 1)) == ("JPEG", 1)
    assert kept.getpixel((4, 4)) == (254, 0, 0)


def test_a_large_picture_is_made_smaller() -> None:
    kept = kept_of(Image.new("L", (5000, 2500)), "JPEG")
    assert kept.size == (KEPT_SIDE_MAX, KEPT_SIDE_MAX // 2)


def test_nothing_written_into_it_survives() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "at home")
    image = Image.new("RGB", (2, 2))
    _, content = reencoded(encoded(image, "PNG", pnginfo=info, icc_profile=b"at home" * 10, exif=b"Exif\0\0at home"))
    assert b"at home" not in content
    assert not Image.open(BytesIO(content)).info


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_image_is_read_or_refused(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    content = bytearray(encoded(Image.linear_gradient("L").resize((24, 16)), form))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Unreadable, TooManyPixels):
        reencoded(bytes(content[: data.draw(st.integers(1, len(content)))]))
