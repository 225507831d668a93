"""The ways to bring data: a file, a folder, a sample, the clipboard, Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog

from app.models.pasted import free_file, save_text
from app.project import DataChoice
from app.widgets.hub_sheet import HubChoice, HubSheet
from app.widgets.paste_sheet import Pasted, PasteSheet
from mlx_lora.data import samples
from mlx_lora.storage import show

if TYPE_CHECKING:
    from app.desk import Desk
    from app.pages.page import Page

_ENDINGS = ("txt", "md", "jsonl", "ndjson", "json", "csv", "tsv", "parquet")
_FILTER = "Data ({});;All files (*)".format(" ".join([f"*.{e}" for e in _ENDINGS] + ["*.gz"]))
# source, title, a sentence, what its rows are
SAMPLES = (
    ("demo", "Shakespeare", "A play, learnt word by word.", "plain text"),
    *((one.source, one.title, one.sentence, one.form) for one in samples.SAMPLES),
)


class Brought(msgspec.Struct, frozen=True):
    """Data somebody chose, and which part of it: `subset` and `split` of a Hugging Face set."""

    choice: DataChoice
    part: dict[str, str] = {}


class DatasetSources(QObject):
    """Asks, over the page; `brought` carries a `Brought`."""

    brought = Signal(object)

    def __init__(self, page: Page, desk: Desk) -> None:
        super().__init__(page)
        self._page, self._desk = page, desk

    def take(self, path: Path) -> None:
        """A file or a folder."""
        self._bring(DataChoice(show(path.absolute()), path.name))

    def choose(self) -> None:
        """Ask for a file."""
        self._ask("Choose a Dataset", QFileDialog.FileMode.ExistingFile)

    def choose_folder(self) -> None:
        """Ask for a folder with train and valid files."""
        self._ask("Choose a Folder with Train and Valid Files", QFileDialog.FileMode.Directory)

    def choose_hub(self, why: str = "") -> None:
        """Ask for a dataset of Hugging Face; `why` is what the last answer asked for."""
        data, chosen = self._desk.chosen.data, self._desk.chosen.settings.get("data", {})
        before = HubChoice("")
        if why and data is not None:
            before = HubChoice(data.source, chosen.get("subset", ""), chosen.get("split", ""))
        sheet = HubSheet(self._page, before, why)
        sheet.chosen.connect(self._take_hub)
        sheet.open()

    def use_sample(self, source: str) -> None:
        """One of the small sets that come along."""
        title = next(title for key, title, *_ in SAMPLES if key == source)
        self._bring(DataChoice(source, f"{title} sample"))

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

    def _bring(self, choice: DataChoice, part: dict[str, str] | None = None) -> None:
        self.brought.emit(Brought(choice, part or {}))

    def _take_hub(self, chosen: HubChoice) -> None:
        part = {"subset": chosen.subset, "split": chosen.split}
        self._bring(
            DataChoice(chosen.name, chosen.name),
            {name: text for name, text in part.items() if text},
        )

    def _ask(self, title: str, mode: QFileDialog.FileMode) -> None:
        dialog = QFileDialog(self._page.window(), title, str(Path.home()), _FILTER)
        dialog.setFileMode(mode)
        dialog.fileSelected.connect(lambda name: self.take(Path(name)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _save(self, pasted: Pasted) -> None:
        root = self._desk.runs.root
        self._desk.tasks.run(lambda: save_text(root, pasted.name, pasted.text), self.take)
