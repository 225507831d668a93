"""The app's icon: its files are what the drawing is today, in every size a Mac asks for."""

from __future__ import annotations

import importlib.util
import struct
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtGui import QColor, QGuiApplication, QImage

from mlx_lora.models.library import assets

if TYPE_CHECKING:
    from app.application import Application

ICONS = assets() / "icons"
SIZES = {
    "ic07": 128, "ic08": 256, "ic09": 512, "ic10": 1024, "ic11": 32, "ic12": 64, "ic13": 256,
    "ic14": 512,
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> Any:
    """assets/icons/render.py."""
    spec = importlib.util.spec_from_file_location("render_icons", ICONS / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpack(content: bytes) -> dict[str, bytes]:
    """The pictures of an .icns by kind; a length that does not fit is an error."""
    magic, length = struct.unpack(">4sI", content[:8])
    assert (magic, length) == (b"icns", len(content))
    found: dict[str, bytes] = {}
    at = 8
    while at < length:
        kind, size = struct.unpack(">4sI", content[at : at + 8])
        assert 8 < size <= length - at
        found[kind.decode()] = content[at + 8 : at + size]
        at += size
    return found


def difference(one: QImage, other: QImage) -> float:
    """Share of pixels that differ by more than 8 of 255 in a channel."""
    assert one.size() == other.size()
    # named, so that they live while their bytes are copied: constBits() keeps no image alive
    images = [image.convertToFormat(QImage.Format.Format_RGBA8888) for image in (one, other)]
    left, right = (bytes(image.constBits()) for image in images)
    far = {at // 4 for at, (a, b) in enumerate(zip(left, right, strict=True)) if abs(a - b) > 8}
    return len(far) / (len(left) / 4)


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    return unpack((ICONS / "understudy.icns").read_bytes())


def test_every_size_is_there(pictures: dict[str, bytes]) -> None:
    assert set(pictures) == set(SIZES)


@pytest.mark.parametrize("kind", SIZES)
def test_a_picture_is_the_drawing(pictures: dict[str, bytes], script: Any, kind: str) -> None:
    data = pictures[kind]
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (SIZES[kind], SIZES[kind])
    picture = QImage.fromData(data, "PNG")
    assert picture.hasAlphaChannel()
    assert difference(picture, script.render(SIZES[kind])) <= 0.001


def test_the_png_is_the_drawing(script: Any) -> None:
    assert difference(QImage(str(ICONS / "understudy.png")), script.render(512)) <= 0.001


def test_it_shows_something_on_nothing(script: Any) -> None:
    """A clear corner, a blue ground, a white letter."""
    image = script.render(256)
    assert image.pixelColor(2, 2).alpha() == 0
    ground, letter = image.pixelColor(40, 200), image.pixelColor(85, 110)
    assert ground.alpha() == 255
    assert ground.blue() > ground.red() + 80
    assert letter == QColor("white")


def test_another_picture_is_noticed(script: Any) -> None:
    image = script.render(64)
    other = image.copy()
    other.fill(0)
    assert difference(image, image) == 0.0
    assert difference(image, other) > 0.5


def test_the_window_has_it(application: Application, script: Any) -> None:
    application.window.show()
    seen = QGuiApplication.windowIcon().pixmap(128).toImage()
    assert difference(seen, script.render(128)) <= 0.01
