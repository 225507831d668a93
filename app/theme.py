"""Colours, type and their application: tokens in, palette and style sheet out.

Fusion on every platform with tokens of our own, so that what is seen on Linux is what a Mac shows
(apart from the system's font there). Painted widgets read `theme.tokens` while they paint.
"""

from __future__ import annotations

import sys
from typing import Literal

import msgspec
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from app.style import style_sheet
from mlx_lora.models.library import assets

Mode = Literal["system", "light", "dark"]


class Tokens(msgspec.Struct, frozen=True):
    """Every colour of one appearance, as #rrggbb."""

    window: str
    sidebar: str
    card: str
    inset: str
    border: str
    strong: str
    track: str
    hover: str
    selected: str
    text: str
    text2: str
    text3: str
    accent: str
    on_accent: str
    accent_soft: str
    accent_hover: str
    ok: str
    ok_soft: str
    warn: str
    warn_soft: str
    bad: str
    bad_soft: str
    violet: str
    cyan: str

    def color(self, name: str) -> QColor:
        """A token by its name."""
        return QColor(getattr(self, name))


LIGHT = Tokens(
    window="#f6f6f8", sidebar="#ececef", card="#ffffff", inset="#f0f0f3", border="#e0e0e4",
    strong="#c9c9cf", track="#e3e3e9", hover="#f0f0f3", selected="#dcdcdf",
    text="#1d1d1f", text2="#5f5f66", text3="#86868d",
    accent="#0a66e4", on_accent="#ffffff", accent_soft="#e6f0fe", accent_hover="#0857c4",
    ok="#187636", ok_soft="#e4f5e9", warn="#945400", warn_soft="#fdf1dc",
    bad="#c8101e", bad_soft="#fde8e8", violet="#7a3fc4", cyan="#0f7c8c",
)  # fmt: skip
DARK = Tokens(
    window="#1c1c1e", sidebar="#242427", card="#2a2a2d", inset="#232326", border="#3a3a3e",
    strong="#55555b", track="#3f3f44", hover="#353539", selected="#37373b",
    text="#f5f5f7", text2="#b0b0b7", text3="#83838b",
    accent="#4da0ff", on_accent="#06192f", accent_soft="#16324f", accent_hover="#74b5ff",
    ok="#4cc870", ok_soft="#173a22", warn="#f0b04a", warn_soft="#40300f",
    bad="#ff7a74", bad_soft="#4a1f1f", violet="#b58cf0", cyan="#57c3d6",
)  # fmt: skip
# every pair a person reads: text on what is behind it. text3 marks what is off
PAIRS = (
    *((text, on) for text in ("text", "text2") for on in ("window", "sidebar", "card", "inset")),
    ("text", "selected"), ("text2", "selected"), ("text", "hover"),
    ("accent", "window"), ("accent", "card"), ("on_accent", "accent"), ("accent", "accent_soft"),
    ("on_accent", "accent_hover"),
    ("ok", "ok_soft"), ("ok", "card"), ("warn", "warn_soft"), ("warn", "card"), ("bad", "bad_soft"),
    ("bad", "card"), ("text", "warn_soft"), ("text", "bad_soft"), ("text", "ok_soft"),
    ("text2", "warn_soft"), ("text2", "bad_soft"),
    ("text", "accent_soft"), ("violet", "card"), ("cyan", "card"), ("card", "ok"),
)  # fmt: skip

Role = Literal[
    "display", "metric", "title", "headline", "body", "strong", "callout", "caption", "mono"
]
# pixels, weight, tracking in pixels
_ROLES: dict[str, tuple[int, QFont.Weight, float]] = {
    "display": (26, QFont.Weight.Bold, -0.35),
    "metric": (22, QFont.Weight.DemiBold, -0.2),
    "title": (20, QFont.Weight.DemiBold, -0.2),
    "headline": (15, QFont.Weight.DemiBold, 0.0),
    "body": (13, QFont.Weight.Normal, 0.0),
    "strong": (13, QFont.Weight.DemiBold, 0.0),
    "callout": (12, QFont.Weight.Normal, 0.0),
    "caption": (11, QFont.Weight.Normal, 0.0),
    "mono": (12, QFont.Weight.Normal, 0.0),
}


def font(role: Role, *, tabular: bool = False) -> QFont:
    """The font of a role; `tabular` digits for small numbers that change."""
    size, weight, tracking = _ROLES[role]
    made = QFont(QApplication.font())
    if role == "mono":
        made = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    made.setPixelSize(size)
    made.setWeight(weight)
    if tracking:
        made.setLetterSpacing(QFont.SpacingType.AbsoluteSpacing, tracking)
    if tabular:
        made.setFeature(QFont.Tag("tnum"), 1)
    return made


class Theme(QObject):
    """The appearance in use; emits `changed` after everything was restyled."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.mode = LIGHT, "light"

    @property
    def dark(self) -> bool:
        """Whether the dark tokens are in use."""
        return self.tokens is DARK

    def apply(self, mode: Mode) -> None:
        """Restyle the application; `system` follows the machine from now on."""
        self.mode = mode
        dark = mode == "dark" or (mode == "system" and _system_is_dark())
        self.tokens = DARK if dark else LIGHT
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        sheet = style_sheet({**msgspec.structs.asdict(self.tokens), **_images(dark=dark)})
        if sheet != app.styleSheet():  # restyling every widget takes its time
            app.setPalette(_palette(self.tokens))
            app.setStyleSheet(sheet)
        self.changed.emit()


theme = Theme()


def prepare(app: QApplication) -> None:
    """Style and font, once, before the first widget."""
    app.setStyle("Fusion")
    if sys.platform != "darwin":
        for path in sorted((assets() / "fonts").glob("*.otf")):
            QFontDatabase.addApplicationFont(str(path))
        app.setFont(QFont("Inter"))
    base = app.font()
    base.setPixelSize(_ROLES["body"][0])
    app.setFont(base)
    QGuiApplication.styleHints().colorSchemeChanged.connect(_follow_system)


def _follow_system() -> None:
    if theme.mode == "system":
        theme.apply("system")


def _system_is_dark() -> bool:
    return QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark


def _images(*, dark: bool) -> dict[str, str]:
    """Marks a style sheet can only take from files."""
    folder, tone = assets() / "icons", "dark" if dark else "light"
    return {name: (folder / f"{name}-{tone}.svg").as_posix() for name in ("tick", "updown")}


def _palette(tokens: Tokens) -> QPalette:
    palette, roles = QPalette(), QPalette.ColorRole
    pairs = (
        (roles.Window, tokens.window), (roles.Base, tokens.card), (roles.Button, tokens.card),
        (roles.AlternateBase, tokens.inset), (roles.Text, tokens.text),
        (roles.WindowText, tokens.text), (roles.ButtonText, tokens.text),
        (roles.PlaceholderText, tokens.text2), (roles.ToolTipBase, tokens.card),
        (roles.ToolTipText, tokens.text), (roles.Highlight, tokens.accent),
        (roles.HighlightedText, tokens.on_accent), (roles.Link, tokens.accent),
        (roles.Accent, tokens.accent), (roles.Light, tokens.card), (roles.Mid, tokens.strong),
        (roles.Dark, tokens.strong), (roles.Midlight, tokens.border), (roles.Shadow, tokens.strong),
    )  # fmt: skip
    for role, color in pairs:
        palette.setColor(role, QColor(color))
    for role in (roles.Text, roles.WindowText, roles.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(tokens.text3))
    return palette
