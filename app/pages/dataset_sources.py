"""The ways to bring data: a file, a folder, the sample, the clipboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog

from app.models.pasted import free_file, save_text
from app.project import DataChoice
from app.widgets.paste_sheet import Pasted, PasteSheet
from mlx_lora.storage import show

if TYPE_CHECKING:
    from app.desk import Desk
    from app.pages.page import Page

_FILTER = "Text and rows (*.txt *.md *.jsonl *.ndjson *.json);;All files (*)"


class DatasetSources(QObject):
    """Asks, over the page; `brought` carries the `DataChoice`."""

    brought = Signal(object)

    def __init__(self, page: Page, desk: Desk) -> None:
        super().__init__(page)
        self._page, self._desk = page, desk

    def take(self, path: Path) -> None:
        """A file or a folder."""
        self.brought.emit(DataChoice(show(path.absolute()), path.name))

    def choose(self) -> None:
        """Ask for a file."""
        self._ask("Choose a Dataset", QFileDialog.FileMode.ExistingFile)

    def choose_folder(self) -> None:
        """Ask for a folder with train and valid files."""
        self._ask("Choose a Folder with Train and Valid Files", QFileDialog.FileMode.Directory)

    def use_sample(self) -> None:
        """The bundled Shakespeare."""
        self.brought.emit(DataChoice("demo", "Shakespeare sample"))

    def paste(self) -> None:
        """Make a file of the clipboard's text, after a look at it."""
        text, root = QGuiApplication.clipboard().text(), self._desk.runs.root
        if not text.strip():
            words = "Copy some text first, then press Paste Text again."
            self._page.banner.say("There is no text on the clipboard", words)
            return
        sheet = PasteSheet(
            self._page, text, lambda name, text: show(free_file(root / "datasets", name, text))
        )
        sheet.saved.connect(self._save)
        sheet.open()

    def _ask(self, title: str, mode: QFileDialog.FileMode) -> None:
        dialog = QFileDialog(self._page.window(), title, str(Path.home()), _FILTER)
        dialog.setFileMode(mode)
        dialog.fileSelected.connect(lambda name: self.take(Path(name)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _save(self, pasted: Pasted) -> None:
        root = self._desk.runs.root
        self._desk.tasks.run(lambda: save_text(root, pasted.name, pasted.text), self.take)
