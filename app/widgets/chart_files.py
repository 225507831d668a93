"""The loss chart as files: PNG at twice the size, SVG, and the numbers as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QRectF, QSize
from PySide6.QtGui import QImage, QImageWriter, QPainter
from PySide6.QtSvg import QSvgGenerator

from app.theme import theme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Draw = Callable[[QPainter, QRectF], None]

_WIDTH, _HEIGHT, _MARGIN = 960, 400, 16


def draw_png(draw: Draw, scale: int = 2) -> bytes:
    """The drawing on a card, as a PNG file."""
    image = QImage(_WIDTH * scale, _HEIGHT * scale, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(scale)
    painter = QPainter(image)
    _draw(painter, draw)
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    QImageWriter(buffer, QByteArray(b"png")).write(image)
    return bytes(buffer.data().data())


def draw_svg(draw: Draw) -> bytes:
    """The drawing on a card, as an SVG file."""
    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setResolution(96)
    generator.setSize(QSize(_WIDTH, _HEIGHT))
    generator.setViewBox(QRectF(0, 0, _WIDTH, _HEIGHT))
    generator.setTitle("Loss")
    painter = QPainter(generator)
    _draw(painter, draw)
    painter.end()
    buffer.close()
    return bytes(content.data())


def make_csv(
    losses: Iterable[tuple[int, float]], held_out: Iterable[tuple[int, float, float]]
) -> bytes:
    """A line a step: its loss, and held-out loss and accuracy where they were measured."""
    rows: dict[int, tuple[str, str, str]] = {}
    for step, loss in losses:
        rows[step] = (repr(loss), "", "")
    for step, loss, accuracy in held_out:
        rows[step] = (rows.get(step, ("", "", ""))[0], repr(loss), repr(accuracy))
    lines = [f"{step},{','.join(values)}" for step, values in sorted(rows.items())]
    return ("\n".join(["step,train_loss,held_out_loss,held_out_accuracy", *lines]) + "\n").encode()


def _draw(painter: QPainter, draw: Draw) -> None:
    whole = QRectF(0, 0, _WIDTH, _HEIGHT)
    painter.fillRect(whole, theme.tokens.color("card"))
    draw(painter, whole.adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN))
