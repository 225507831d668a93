"""Line icons: SVG paths on a 24-unit square, stroked in a token's colour, crisp at every scale."""

from __future__ import annotations

import functools

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from app.theme import theme

_PATHS = {
    "add": "M12 5v14M5 12h14",
    "adapter": "M13 3L5 13h6l-1 8 8-10h-6z",
    "back": "M15 5l-7 7 7 7",
    "bolt": "M13 3L5 13h6l-1 8 8-10h-6z",
    "chart": "M4 4v16h16M8 15l4-5 3 3 5-7",
    "check": "M5 12.5l4.5 4.5L19 7",
    "chip": "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
    "clock": "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3 2",
    "close": "M6 6l12 12M18 6L6 18",
    "copy": "M9 9h11v11H9zM5 15H4V4h11v1",
    "cube": "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
    "dice": "M5 5h14v14H5zM9 9h.01M15 15h.01M15 9h.01M9 15h.01",
    "down": "M6 9l6 6 6-6",
    "download": "M12 4v11M7 11l5 5 5-5M5 20h14",
    "export": "M12 15V4M7.5 8L12 3.5 16.5 8M5 13v7h14v-7",
    "file": "M7 3h7l5 5v13H7zM14 3v5h5",
    "folder": "M3 6h6l2 2h10v11H3z",
    "info": "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v6M12 7.5v.01",
    "list": "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
    "log": "M5 4h14v16H5zM8 8h8M8 12h8M8 16h5",
    "more": "M6 12h.01M12 12h.01M18 12h.01",
    "ollama": "M7 21V9M17 21V9M7 9V5a2 2 0 0 1 3 0v4M17 9V5a2 2 0 0 0-3 0v4M10 9h4M7 13h10",
    "pause": "M9 5v14M15 5v14",
    "play": "M7 4.5v15l12-7.5z",
    "redo": "M20 12a8 8 0 1 1-2.5-5.8M20 4v5h-5",
    "reveal": "M3 6h6l2 2h10v11H3zM14 12h4M16 10v4",
    "right": "M9 6l6 6-6 6",
    "search": "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5",
    "settings": "M4 7h10M18 7h2M4 17h2M10 17h10M14 4.5v5M6 14.5v5",
    "spark": "M12 3l2 7 7 2-7 2-2 7-2-7-7-2 7-2z",
    "stop": "M6.5 6.5h11v11h-11z",
    "text": "M5 5h14M12 5v14M9 19h6",
    "trash": "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
    "updown": "M8 9l4-4 4 4M8 15l4 4 4-4",
    "up": "M6 15l6-6 6 6",
    "warn": "M12 4L2.5 20h19zM12 10v5M12 17.5v.01",
}


def pixmap(name: str, tone: str = "text", size: int = 16) -> QPixmap:
    """An icon as pixels of the screen it is shown on."""
    app = QApplication.instance()
    ratio = app.devicePixelRatio() if isinstance(app, QApplication) else 1.0
    return _drawn(name, theme.tokens.color(tone).name(), size, ratio)


def icon(name: str, tone: str = "text", size: int = 16, *, gap: int = 0) -> QIcon:
    """An icon for a button; `gap` adds room at its right, which buttons cannot."""
    drawn = pixmap(name, tone, size)
    made, off = QIcon(), pixmap(name, "text3", size)
    for source, mode in ((drawn, QIcon.Mode.Normal), (off, QIcon.Mode.Disabled)):
        made.addPixmap(_padded(source, gap), mode)
    return made


@functools.cache
def _drawn(name: str, color: str, size: int, ratio: float) -> QPixmap:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" '
        f'stroke="{color}" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        f'<path d="{_PATHS[name]}"/></svg>'
    )
    made = QPixmap(round(size * ratio), round(size * ratio))
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, size, size))
    painter.end()
    return made


def _padded(source: QPixmap, gap: int) -> QPixmap:
    if not gap:
        return source
    ratio = source.devicePixelRatio()
    made = QPixmap(source.width() + round(gap * ratio), source.height())
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.drawPixmap(0, 0, source)
    painter.end()
    return made
