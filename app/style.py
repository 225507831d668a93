"""The one style sheet, from the tokens of a theme. Widgets say what they are with properties.

QPushButton[kind]: primary, danger, link, pill, quiet; without it the plain button.
QFrame[role]: card, inset, sidebar, footer, line. QLabel[tone]: any token.
"""

from __future__ import annotations

from string import Template

_SHEET = Template("""
QWidget { color: $text; selection-background-color: $accent; selection-color: $on_accent; }
QMainWindow, QDialog, QWidget[role="window"] { background: $window; }
QToolTip { background: $card; color: $text; border: 1px solid $border; padding: 4px 6px; }

QFrame[role="card"] { background: $card; border: 1px solid $border; border-radius: 12px; }
QFrame[role="inset"] { background: $inset; border: 1px solid $border; border-radius: 8px; }
QFrame[role="popover"] { background: $card; border: 1px solid $strong; }
QFrame[role="sidebar"] { background: $sidebar; border: none; border-right: 1px solid $border; }
QFrame[role="footer"] { background: $window; border: none; border-top: 1px solid $border; }
QFrame[role="line"] { background: $border; border: none; min-height: 1px; max-height: 1px; }
QFrame[role="warn"] { background: $warn_soft; border: none; border-radius: 8px; }
QFrame[role="bad"] { background: $bad_soft; border: none; border-radius: 8px; }
QFrame[role="ok"] { background: $ok_soft; border: none; border-radius: 8px; }
QFrame[role="info"] { background: $accent_soft; border: none; border-radius: 8px; }

QLabel { background: transparent; }
QLabel[tone="text2"] { color: $text2; } QLabel[tone="text3"] { color: $text3; }
QLabel[tone="accent"] { color: $accent; } QLabel[tone="ok"] { color: $ok; }
QLabel[tone="warn"] { color: $warn; } QLabel[tone="bad"] { color: $bad; }
QLabel:disabled { color: $text3; }

QPushButton { background: $card; color: $text; border: 1px solid $strong; border-radius: 7px;
  padding: 4px 14px; min-height: 20px; }
QPushButton:hover { background: $hover; } QPushButton:pressed { background: $track; }
QPushButton:disabled { color: $text3; background: $inset; border-color: $border; }
QPushButton:focus { border: 2px solid $accent; padding: 3px 13px; }
QPushButton[kind="primary"] { background: $accent; color: $on_accent; border: 1px solid $accent;
  font-weight: 600; min-width: 110px; }
QPushButton[kind="primary"]:hover { background: $accent_hover; }
QPushButton[kind="primary"]:disabled { background: $track; color: $text3; border-color: $track; }
QPushButton[kind="primary"]:focus { border: 2px solid $text; padding: 3px 13px; }
QPushButton[kind="danger"] { color: $bad; }
QPushButton[kind="danger"]:disabled { color: $text3; }
QPushButton[kind="link"], QPushButton[kind="quiet"] { background: transparent;
  border: 2px solid transparent; padding: 3px 4px; }
QPushButton[kind="link"] { color: $accent; }
QPushButton[kind="link"]:hover { text-decoration: underline; }
QPushButton[kind="link"]:disabled { color: $text3; }
QPushButton[kind="quiet"]:hover { background: $selected; }
QPushButton[kind="link"]:focus, QPushButton[kind="quiet"]:focus { border: 2px solid $accent; }
QPushButton[kind="pill"] { border-radius: 14px; padding: 3px 13px; color: $text2; }
QPushButton[kind="pill"]:checked { background: $accent_soft; color: $accent;
  border-color: $accent_soft; font-weight: 600; }
QPushButton[kind="pill"]:disabled { color: $text3; }
QPushButton[kind="pill"]:focus { border: 2px solid $accent; padding: 2px 12px; }
QPushButton[kind="segment"] { background: transparent; border: 2px solid transparent;
  border-radius: 6px; padding: 2px 14px; color: $text2; }
QPushButton[kind="segment"]:hover { color: $text; }
QPushButton[kind="segment"]:checked { background: $selected; color: $text; font-weight: 600; }
QPushButton[kind="segment"]:focus { border: 2px solid $accent; }
QPushButton::menu-indicator { width: 0; }

QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox, QPlainTextEdit, QTextEdit { background: $card;
  color: $text; border: 1px solid $strong; border-radius: 6px; padding: 3px 8px; }
QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox { min-height: 20px; }
QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus, QComboBox:focus, QPlainTextEdit:focus,
  QTextEdit:focus { border: 2px solid $accent; padding: 2px 7px; }
QLineEdit[bad="true"] { border: 2px solid $bad; padding: 2px 7px; }
QSpinBox[bare="true"]::up-button, QSpinBox[bare="true"]::down-button { width: 0; border: none; }
QLineEdit:disabled, QSpinBox:disabled, QComboBox:disabled { color: $text3; background: $inset; }
QSpinBox QLineEdit, QDoubleSpinBox QLineEdit, QComboBox QLineEdit { border: none; padding: 0;
  min-height: 0; background: transparent; }
QPlainTextEdit[role="plain"], QTextEdit[role="plain"] { border: 2px solid transparent;
  background: transparent; padding: 0; }
QPlainTextEdit[role="plain"]:focus, QTextEdit[role="plain"]:focus { border: 2px solid $accent;
  padding: 0; }
QPlainTextEdit[role="log"] { background: $inset; border-color: $border; }
QComboBox { padding-right: 22px; } QComboBox::drop-down { border: none; width: 20px; }
QComboBox::down-arrow { image: url("$updown"); width: 10px; height: 14px; }
QComboBox QAbstractItemView, QMenu { background: $card; color: $text; border: 1px solid $border;
  padding: 4px; outline: none; }
QMenu::item { padding: 5px 24px 5px 12px; border-radius: 5px; }
QMenu::item:selected { background: $accent; color: $on_accent; }
QMenu::item:disabled { color: $text3; background: transparent; }
QMenu::separator { height: 1px; background: $border; margin: 4px 8px; }
QMenuBar { background: $window; color: $text; } QMenuBar::item { padding: 4px 10px; }
QMenuBar::item:selected { background: $selected; border-radius: 5px; }

QCheckBox, QRadioButton { spacing: 8px; padding: 2px; border: 2px solid transparent;
  border-radius: 6px; }
QCheckBox:focus, QRadioButton:focus { border: 2px solid $accent; }
QCheckBox::indicator { width: 16px; height: 16px; border: 1px solid $strong; border-radius: 4px;
  background: $card; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent;
  image: url("$tick"); }
QCheckBox::indicator:disabled { background: $inset; border-color: $border; }
QCheckBox::indicator:checked:disabled { background: $text3; border-color: $text3; }
QSlider { min-height: 26px; border: 2px solid transparent; border-radius: 6px; }
QSlider:focus { border: 2px solid $accent; }
QSlider::groove:horizontal { height: 4px; background: $track; border-radius: 2px; }
QSlider::sub-page:horizontal { background: $accent; border-radius: 2px; }
QSlider::handle:horizontal { width: 16px; height: 16px; margin: -7px 0; border-radius: 9px;
  background: $card; border: 1px solid $strong; }
QProgressBar { background: $track; border: none; border-radius: 3px; max-height: 6px;
  min-height: 6px; text-align: center; color: transparent; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }
QProgressBar[tone="ok"]::chunk { background: $ok; }
QProgressBar[tone="bad"]::chunk { background: $bad; }
QProgressBar[tone="warn"]::chunk { background: $warn; }
QProgressBar[tone="plain"]::chunk { background: $text3; }

QTableView, QListView, QTreeView { background: $card; border: none; outline: none;
  gridline-color: transparent; selection-background-color: $accent_soft;
  selection-color: $text; }
QTableView::item { padding: 0 8px; border: none; border-bottom: 1px solid $border; }
QTableView::item:selected { background: $accent_soft; color: $text; }
QTableView:focus, QListView:focus { border: 2px solid $accent; border-radius: 6px; }
QHeaderView { background: $card; border: none; }
QHeaderView::section { background: $card; color: $text2; border: none; font-weight: 600;
  border-bottom: 1px solid $border; padding: 6px 11px; }
QTableCornerButton::section { background: $card; border: none; }
QScrollArea, QScrollArea > QWidget > QWidget[role="page"] { background: transparent; border: none; }
QWidget[role="clear"] { background: transparent; }
QScrollBar { background: transparent; width: 11px; height: 11px; margin: 0; border: none; }
QScrollBar::handle { background: $strong; border-radius: 4px; margin: 2px; min-height: 28px;
  min-width: 28px; }
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {
  background: none; border: none; width: 0; height: 0; }
QSplitter::handle { background: transparent; }
""")


def style_sheet(values: dict[str, str]) -> str:
    """The sheet with every token put in; `tick` and `updown` are files."""
    return _SHEET.substitute(values)
