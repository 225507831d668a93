"""Settings: what holds for every project on this computer. Each is kept as it is changed."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QSlider, QVBoxLayout

from app.diagnostics import diagnostics, versions
from app.folders import SHOW, reveal
from app.models.errand import Errand
from app.pages.access import open_token_sheet
from app.pages.page import Page, Primary
from app.widgets.button import Button, Segments
from app.widgets.card import Card, Line
from app.widgets.label import Label
from app.widgets.setting_row import FolderRow, SettingRow
from app.widgets.sheet import ask
from mlx_lora.models.offline import offline_reason, switch_offline
from mlx_lora.storage import expanded, show

if TYPE_CHECKING:
    from PySide6.QtGui import QHideEvent
    from PySide6.QtWidgets import QMessageBox, QWidget

    from app.desk import Desk

_THEMES = (("system", "System"), ("light", "Light"), ("dark", "Dark"))
_PRESETS = (("quick", "Quick"), ("balanced", "Balanced"), ("thorough", "Thorough"))
_LEAST, _SAVE_AFTER = 50, 300


class SettingsPage(Page):
    """Five cards in two columns."""

    key, title = "settings", "Settings"
    purpose = "They hold for every project on this computer."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.sheet: QMessageBox | None = None
        self.keys = Errand()
        self.dialog: QFileDialog | None = None
        self._save = QTimer(self, singleShot=True, interval=_SAVE_AFTER)
        self._save.timeout.connect(self._keep_memory)
        columns = QHBoxLayout()
        columns.setSpacing(16)
        left = (self._make_general(), self._make_training(), self._make_hub())
        right = (self._make_folders(), self._make_advanced())
        for cards in (left, right):
            column = QVBoxLayout()
            column.setSpacing(16)
            for card in cards:
                column.addWidget(card)
            column.addStretch(1)
            columns.addLayout(column, 1)
        self.body.addLayout(columns)
        self.body.addStretch(1)
        desk.settings.changed.connect(self._say)
        self._say()

    def hint(self) -> str:
        """That nothing has to be saved."""
        return "Every change is kept at once."

    def primary(self) -> Primary:
        """Back to work."""
        return Primary("Done")

    def act(self) -> None:
        """To where the project stands."""
        self.leave.emit("")

    def entered(self) -> None:
        """What was switched elsewhere."""
        self._say()

    # -- cards

    def _make_general(self) -> Card:
        self.themes = Segments(_THEMES, partial(self._set, "theme"), name="Appearance")
        self.awake = QCheckBox("Stay awake")
        self.awake.toggled.connect(partial(self._set, "keep_awake"))
        mac = sys.platform == "darwin"
        self.awake.setEnabled(mac)
        text = (
            "The display may sleep; training goes on."
            if mac
            else "Sleep can be held off on a Mac only."
        )
        return _card(
            "General",
            SettingRow("Appearance", "System follows the computer.", self.themes),
            SettingRow("While Training", text, self.awake),
        )

    def _make_training(self) -> Card:
        self.presets = Segments(_PRESETS, partial(self._set, "preset"), name="Default preset")
        self.memory = QSlider(Qt.Orientation.Horizontal)
        self.memory.setRange(_LEAST, 100)
        self.memory.setSingleStep(5)
        self.memory.setPageStep(10)
        self.memory.setAccessibleName("Memory training may use, in percent")
        self.memory.valueChanged.connect(self._slide)
        self.share = Label("", "strong")
        return _card(
            "Training",
            SettingRow("Default Preset", "Where new projects start.", below=self.presets),
            SettingRow(
                "Memory Limit",
                "The forecast warns when a run would need more. Lower it to work beside training.",
                self.share, below=self.memory,
            ),
        )  # fmt: skip

    def _make_hub(self) -> Card:
        self.offline = QCheckBox("Work offline")
        self.offline.toggled.connect(self._switch)
        self.token = Button("Access Token…", lambda: open_token_sheet(self, self.keys))
        self.connection = SettingRow("Connection", "", self.offline)
        text = "For models that ask for consent. It is kept in the Keychain."
        return _card("Hugging Face", self.connection, SettingRow("Signing In", text, self.token))

    def _make_folders(self) -> Card:
        choose, clear = self._choose, self._set
        self.data = FolderRow(
            "Runs and Projects", "Where everything you train is kept.",
            (SHOW, lambda: reveal(self.desk.runs.root)),
        )  # fmt: skip
        self.models = FolderRow(
            "Models", "Looked through beside the Hugging Face cache.",
            ("Choose…", lambda: choose("models_folder", "Folder With Models")),
            ("Clear", lambda: clear("models_folder", "")), none="Only the Hugging Face cache",
        )  # fmt: skip
        self.exports = FolderRow(
            "Exports", "Where Export begins; it can be another place each time.",
            ("Choose…", lambda: choose("exports_folder", "Folder for Exports")),
            ("Clear", lambda: clear("exports_folder", "")), none="In the run’s own folder",
        )  # fmt: skip
        return _card("Folders", self.data, self.models, self.exports)

    def _make_advanced(self) -> Card:
        self.copy = Button("Copy Diagnostics", self.copy_diagnostics, icon="copy")
        self.reset = Button("Reset All Settings…", self.ask_to_reset, kind="danger")
        self.versions = SettingRow("Versions", unbroken(versions()), self.copy)
        again = SettingRow("Start Over", "Runs and projects stay.", self.reset)
        return _card("Advanced", self.versions, again)

    # -- what a person does

    def copy_diagnostics(self) -> None:
        """Onto the clipboard."""
        QGuiApplication.clipboard().setText(diagnostics(self.desk))
        self.banner.say(
            "Diagnostics are on the clipboard",
            "Versions and states: no path, no name, no data.",
            "ok",
        )

    def ask_to_reset(self) -> None:
        """Ask before everything is as on the first day."""
        self._keep_memory()
        self.sheet = ask(
            self, "Reset all settings?",
            "Appearance, folders, the default preset and the memory limit go back to how they came."
            " Runs, models and projects stay.",
            "Reset Settings", self.desk.settings.reset,
        )  # fmt: skip

    def _switch(self, offline: bool) -> None:
        switch_offline(self.desk.runs.root, on=offline)
        self._say()

    def _choose(self, name: str, title: str) -> None:
        """Ask for a folder, without blocking."""
        before = getattr(self.desk.settings.value, name)
        dialog = QFileDialog(self.window(), title, before)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(partial(self._set, name))
        self.dialog = dialog
        dialog.open()

    def _set(self, name: str, value: object) -> None:
        self._keep_memory()
        self.desk.settings.update(**{name: value})

    def _slide(self, percent: int) -> None:
        """Shown at once, kept a moment later: a hand on the slider writes no file fifty times."""
        self._say_memory(percent / 100)
        self._save.start()

    def _keep_memory(self) -> None:
        """What the slider shows, if that is not kept yet."""
        self._save.stop()
        self.desk.settings.update(memory_share=self.memory.value() / 100)

    def hideEvent(self, event: QHideEvent) -> None:
        """Another page, or the end: nothing is left unsaved."""
        self._keep_memory()
        super().hideEvent(event)

    # -- what is shown

    def _say(self) -> None:
        """Every control as the settings have it."""
        value = self.desk.settings.value
        self.themes.choose(value.theme)
        self.presets.choose(value.preset)
        reason = offline_reason(self.desk.runs.root)
        for control in (self.awake, self.memory, self.offline):
            control.blockSignals(True)
        self.awake.setChecked(value.keep_awake)
        self.memory.setValue(round(value.memory_share * 100))
        self.offline.setChecked(bool(reason))
        for control in (self.awake, self.memory, self.offline):
            control.blockSignals(False)
        by_environment = reason.endswith("is set")
        self.offline.setEnabled(not by_environment)
        online = "Asked for what you search or download, and for nothing else."
        kept = f"{reason} in the environment." if by_environment else "No connection is tried."
        self.connection.text.setText(kept if reason else online)
        self._say_memory(value.memory_share)
        self.data.say(show(self.desk.runs.root))
        self.models.say(_shown(value.models_folder))
        self.exports.say(_shown(value.exports_folder))

    def _say_memory(self, share: float) -> None:
        usable = self.desk.machine.usable
        words = f"{usable * share / 1e9:.1f} of {usable / 1e9:.1f} GB"
        self.share.setText(words)
        self.memory.setAccessibleDescription(words)


def _card(title: str, *rows: QWidget) -> Card:
    """Rows with hairlines between them."""
    card = Card(title, spacing=10)
    for at, row in enumerate(rows):
        if at:
            card.body.addWidget(Line())
        card.body.addWidget(row)
    return card


def unbroken(names: str) -> str:
    """Names and their versions, each kept on one line."""
    return " · ".join(name.replace(" ", "\N{NO-BREAK SPACE}") for name in names.split(" · "))


def _shown(folder: str) -> str:
    return show(expanded(folder)) if folder else ""
