"""The loss chart into a file of the person's choice."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog

from app.widgets.chart_files import draw_png, draw_svg, make_csv
from mlx_lora.storage import write_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from app.models.run_progress import RunProgress
    from app.tasks import Tasks
    from app.widgets.chart_files import Draw
    from mlx_lora.errors import UserError


class ChartExport:
    """Asks where, draws here, writes off the window's thread; `dialog` is the open one."""

    def __init__(
        self,
        progress: RunProgress,
        draw: Draw,
        tasks: Tasks,
        refused: Callable[[UserError], object],
    ) -> None:
        self._progress, self._draw, self._tasks, self._refused = progress, draw, tasks, refused
        self.dialog: QFileDialog | None = None

    def ask(self, parent: QWidget, kind: str, name: str) -> None:
        """Where a file of this kind (png, svg or csv) goes."""
        dialog = QFileDialog(parent.window(), "Export Chart", f"{name}-loss.{kind}")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(kind)
        dialog.setNameFilter(f"{kind.upper()} (*.{kind})")
        dialog.fileSelected.connect(partial(self.write, kind))
        dialog.finished.connect(lambda _: dialog.deleteLater())
        self.dialog = dialog
        dialog.open()

    def write(self, kind: str, name: str) -> None:
        """Write it."""
        state = self._progress.state
        if kind == "csv":
            held_out = [(v.step, v.loss, v.accuracy) for v in state.validations]
            make = partial(make_csv, list(state.losses), held_out)
        else:
            make = partial(bytes, draw_png(self._draw) if kind == "png" else draw_svg(self._draw))
        self._tasks.run(lambda: write_file(Path(name), make()), lambda _: None, self._refused)
