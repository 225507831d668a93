"""A question over the window: what will happen, verbs as buttons, the safe one as default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QMessageBox

from app.theme import font

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

_WIDE = 340


def ask(
    parent: QWidget,
    title: str,
    text: str,
    verb: str,
    act: Callable[[], object],
    *,
    stay: str = "Cancel",
) -> QMessageBox:
    """Ask before something that cannot simply be undone; Escape and Return leave it be.

    Args:
        parent: of whose window it is a sheet.
        title: the question.
        text: what will happen.
        verb: on the button that does it.
        act: what that button does.
        stay: on the button that leaves everything as it is.

    Returns:
        The open sheet.
    """
    sheet = QMessageBox(parent.window())
    sheet.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    sheet.setWindowModality(Qt.WindowModality.WindowModal)
    sheet.setText(title)
    sheet.setInformativeText(text)
    do = sheet.addButton(verb, QMessageBox.ButtonRole.DestructiveRole)
    cancel = sheet.addButton(stay, QMessageBox.ButtonRole.RejectRole)
    sheet.setDefaultButton(cancel)
    sheet.setEscapeButton(cancel)
    sheet.finished.connect(lambda _: act() if sheet.clickedButton() is do else None)
    dress(sheet)
    sheet.open()
    return sheet


def dress(sheet: QMessageBox) -> None:
    """The question as a headline, the text in lines of a readable length."""
    question = sheet.findChild(QLabel, "qt_msgbox_label")
    text = sheet.findChild(QLabel, "qt_msgbox_informativelabel")
    if isinstance(question, QLabel):
        question.ensurePolished()  # the first polish would take the font back
        question.setFont(font("headline"))
    if isinstance(text, QLabel):
        text.setMinimumWidth(_WIDE)
