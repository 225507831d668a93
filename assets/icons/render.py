"""The app's icon from its drawing:  python assets/icons/render.py

Writes understudy.png (README, Linux) and understudy.icns (the bundle on a Mac) beside the drawing.
An .icns is "icns", its length, then for each picture its kind, its length and a PNG; every length
is 4 bytes, big-endian, and counts the 8 bytes before the data too.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

FOLDER = Path(__file__).parent
DRAWING = FOLDER / "understudy.svg"
PNG_SIZE = 512
# kind -> pixels; two kinds of one size are the same picture for a plain and for a Retina screen
KINDS = {
    b"ic11": 32, b"ic12": 64, b"ic07": 128, b"ic13": 256, b"ic08": 256, b"ic14": 512,
    b"ic09": 512, b"ic10": 1024,
}  # fmt: skip


def render(pixels: int) -> QImage:
    """The drawing, this many pixels wide and high, on nothing."""
    image = QImage(pixels, pixels, QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(0)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    QSvgRenderer(str(DRAWING)).render(painter)
    painter.end()
    return image.convertToFormat(QImage.Format.Format_ARGB32)


def png(pixels: int) -> bytes:
    """The drawing as the bytes of a PNG."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    render(pixels).save(buffer, "PNG")
    return bytes(buffer.data().data())


def pack(pictures: dict[bytes, bytes]) -> bytes:
    """An .icns of these PNGs, by kind."""
    body = b"".join(
        kind + struct.pack(">I", len(data) + 8) + data for kind, data in pictures.items()
    )
    return b"icns" + struct.pack(">I", len(body) + 8) + body


def main() -> None:
    """Write both files."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QGuiApplication([])
    drawn = {pixels: png(pixels) for pixels in sorted({PNG_SIZE, *KINDS.values()})}
    (FOLDER / "understudy.png").write_bytes(drawn[PNG_SIZE])
    (FOLDER / "understudy.icns").write_bytes(pack({k: drawn[size] for k, size in KINDS.items()}))
    app.quit()


if __name__ == "__main__":
    main()
