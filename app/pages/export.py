"""Export: take what was learnt to other programs, each file checked before it is handed over."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QVBoxLayout

from app.folders import SHOW, reveal
from app.models.export_words import (
    GROUPS,
    WORDS,
    about,
    choice_words,
    meaning,
    percent,
    quant_words,
    refusal,
)
from app.models.exports import Exports
from app.models.measurement import Kept, Measurement
from app.pages.making_words import earlier_facts, left, making_facts
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.earlier_card import EarlierCard
from app.widgets.empty import EmptyView
from app.widgets.format_card import FormatCard, FormatFacts
from app.widgets.fuse_table import FuseTable
from app.widgets.label import Label
from app.widgets.making_card import MakingCard
from app.widgets.plan_card import PlanCard, PlanFacts
from app.widgets.scroll import ScrollColumn
from app.widgets.sheet import ask
from app.words import plural, size
from mlx_lora.export.commands import run_command
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.desk import Desk
    from app.models.makings import Making

_FUSED, _NARROW, _RAIL = "mlx-fused", 300, 324


class ExportPage(Page):
    """Every format as a card; the plan, and what came of it, beside them.

    Attributes:
        exports: what can be made, was chosen, and is being made.
        measurement: what fewer bits cost.
        cards: a card for each format, by its name.
    """

    key, title = "export", "Save and export"
    purpose = "Take your model anywhere. Each file is loaded and run once before you get it."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.exports, self.measurement = Exports(desk), Measurement(desk)
        self.show_button = self.add_action(Button(SHOW, self._reveal, icon="reveal"))
        self.cards = {name: FormatCard(WORDS[name].title) for _, names in GROUPS for name in names}
        self.table = FuseTable()
        self.cards[_FUSED].add(self.table)
        self.plan = PlanCard(self._choose_folder)
        self.earlier = EarlierCard("Made before", SHOW, lambda folder: reveal(Path(folder)))
        self.stop = Button("Stop Exporting", self.exports.makings.stop, kind="danger", icon="stop")
        self._columns, self._rail = Row(spacing=16), ScrollColumn()
        self._made = QVBoxLayout()
        self._makings: list[tuple[tuple[object, ...], MakingCard]] = []
        self._arrange()
        self._connect()

    def hint(self) -> str:
        """What will be made, or what is missing."""
        exports = self.exports
        if self.state in {"empty", "loading"} or exports.plan is None:
            return "Nothing has been trained yet" if self.state == "empty" else ""
        makings = exports.makings.shown
        if exports.makings.busy:
            ended = sum(not made.busy for made in makings)
            return f"{ended} of {plural(len(makings), 'export')} ended, {about(left(makings))} left"
        if exports.missing:
            return f"Not enough room: {size(exports.missing)} more are needed"
        if not exports.chosen:
            return "Choose at least one format"
        return "Every file is read back and compared with the model in the app"

    def primary(self) -> Primary:
        """Make what is chosen."""
        exports = self.exports
        many = f"Export {len(exports.chosen)} Formats" if len(exports.chosen) > 1 else "Export"
        able = self.state not in {"empty", "loading"} and exports.plan is not None
        ready = able and bool(exports.chosen) and not exports.makings.busy and not exports.missing
        return Primary(many, enabled=ready)

    def act(self) -> None:
        """Make what is chosen; what is there already is only replaced when that is wanted."""
        there = self.exports.there()
        if not there:
            self.exports.start()
            return
        names = ", ".join(place.name for place in there)
        ask(
            self, "Replace the earlier export?",
            f"There is already: {names}. It stays until the new one has passed its check.",
            "Replace", lambda: self.exports.start(overwrite=True),
        )  # fmt: skip

    def entered(self) -> None:
        """Read what can be made of the run as it is now."""
        self.exports.look()
        self.refresh()

    def refresh(self) -> None:
        """Everything that is seen; nothing while another page is."""
        if not self.isVisibleTo(self.window()):
            return
        exports = self.exports
        self._settle()
        if exports.plan is not None:
            for name, card in self.cards.items():
                card.show_facts(self._facts(name), taken=name in exports.chosen)
            self._say_loss()
            self._say_plan()
            self._show_makings()
        self.changed.emit()

    @property
    def kept(self) -> Kept:
        """What was measured of the adapter that would be exported."""
        plan = self.exports.plan
        return self.measurement.kept(plan.step) if plan else Kept()

    def _settle(self) -> None:
        """The state the page is in."""
        exports, measurement = self.exports, self.measurement
        self._columns.setVisible(exports.plan is not None)
        if not self.desk.progress.usable:
            state = "empty"
        elif exports.problem is not None:
            if self.banner.title.text() != exports.problem.title or self.state != "error":
                self.show_error(exports.problem, ("Try Again", partial(exports.look, again=True)))
            return
        elif exports.plan is None:
            if self.state != "loading":
                self.show_loading("Looking at what can be made…")
            return
        else:
            makings = exports.makings
            state = "running" if makings.busy else ("done" if makings.shown else "ready")
        if state != self.state:
            self.show_state(state)  # type: ignore[arg-type]
        if state == "empty":
            return
        if measurement.problem is not None:
            problem, measurement.problem = measurement.problem, None
            self.banner.show_problem(problem, ("Measure Again", self._measure), closable=True)
        self._say_waiting()

    def _say_waiting(self) -> None:
        """Something else is at work: what was ordered waits its turn."""
        running = self.desk.queue.running
        ours = {made.job for made in self.exports.makings.shown} | {self.measurement.job}
        waits = self.exports.makings.busy or self.measurement.job is not None
        if waits and running is not None and running not in ours:
            what = "Training" if self.desk.progress.live else "Other work"
            title = f"{what} comes first"
            if self.banner.isHidden() or self.banner.title.text() != title:
                then = " It takes the adapter that is kept by then." if what == "Training" else ""
                self.banner.say(title, f"What you ordered starts by itself after it.{then}", "info")
        elif self.banner.title.text().endswith(" comes first"):
            self.banner.clear()

    def _facts(self, name: str) -> FormatFacts:
        plan, words = self.exports.plan, WORDS[name]
        assert plan is not None
        form = plan.formats[name]
        if form.refusal:
            return FormatFacts(
                words.title, words.icon, words.purpose, note=refusal(form, plan), possible=False
            )
        quant, taken = self.exports.quants[name], name in self.exports.chosen
        advised = (self.kept.best if name == _FUSED else "") or form.recommended
        choices = tuple(
            (choice.quant, choice_words(form, choice, advised)) for choice in form.choices
        )
        note = meaning(quant) if taken else ""
        if note and quant == form.recommended == advised and form.why:
            note = f"Advised: {form.why}."
        return FormatFacts(
            words.title, words.icon, words.purpose, choices, quant,
            size(form.choice(quant).nbytes), note, busy=self.exports.makings.busy,
        )  # fmt: skip

    def _say_loss(self) -> None:
        """What fewer bits cost an MLX model."""
        plan, kept = self.exports.plan, self.kept
        self.table.setVisible(plan is not None and not plan.formats[_FUSED].refusal)
        if self.measurement.job is not None:
            self.table.show_work(self.measurement.doing)
        elif kept.shares:
            figures = [(quant_words(bits), percent(share)) for bits, share in kept.shares.items()]
            self.table.show_figures(figures, quant_words(kept.best))
        else:
            self.table.show_offer()

    def _say_plan(self) -> None:
        exports, needed = self.exports, self.exports.needed
        found = exports.found
        assert found is not None
        lines = [
            ("Size on disk", size(needed.nbytes)),
            ("More while it is checked", size(needed.scratch)),
            ("Free on that disk", size(found.free)),
            ("Time, checks included", about(needed.seconds)),
        ] if exports.chosen else [("Free on that disk", size(found.free))]  # fmt: skip
        lack = f"{size(exports.missing)} are missing on that disk." if exports.missing else ""
        names = tuple(place.name for place in exports.places())
        self.plan.show_facts(PlanFacts(tuple(lines), show(exports.folder()), names, lack))
        told = self.desk.progress.state.exports
        self.earlier.show_rows(earlier_facts(told, found.present, exports.makings.shown))

    def _show_makings(self) -> None:
        """A card for each, made anew only when what can be done with it is another thing."""
        makings, plan = self.exports.makings.shown, self.exports.plan
        able = plan.instead() if plan else []
        keys = [(id(made), made.doing, bool(made.report)) for made in makings]
        if keys != [key for key, _ in self._makings]:
            for _, card in self._makings:
                card.hide()
                card.deleteLater()
            self._makings = []
            for key, made in zip(keys, makings, strict=True):
                card = MakingCard(making_facts(made, able), _acts(made, self.exports))
                self._made.addWidget(card)
                self._makings.append((key, card))
        for (_, card), made in zip(self._makings, makings, strict=True):
            card.show_facts(making_facts(made, able))
        self.stop.setVisible(self.exports.makings.busy)

    def _measure(self) -> None:
        self.banner.clear()
        self.measurement.start(self.exports.found.trained if self.exports.found else None)

    def _measured(self, best: str) -> None:
        """Who asked what fewer bits cost gets the width to take, unless another was chosen."""
        plan = self.exports.plan
        if plan and self.exports.quants.get(_FUSED) == plan.formats[_FUSED].recommended:
            self.exports.set_quant(_FUSED, best)

    def _reveal(self) -> None:
        if self.desk.progress.run is not None:
            folder = self.exports.folder()
            reveal(folder if folder.exists() else self.desk.progress.run.folder)

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self.window(), "Where Exports Go", str(self.exports.folder().parent))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(
            lambda name: self.desk.settings.update(exports_folder=show(Path(name)))
        )
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _follow(self) -> None:
        """The run, or what is saved of it, is another one now."""
        if self.isVisibleTo(self.window()):
            self.exports.look()
            self.refresh()

    def _connect(self) -> None:
        for name, card in self.cards.items():
            card.wanted.connect(lambda on, name=name: self.exports.choose(name, wanted=on))
            card.quant_chosen.connect(partial(self.exports.set_quant, name))
        self.table.wanted.connect(self._measure)
        self.table.unwanted.connect(self.measurement.stop)
        self.measurement.found.connect(self._measured)
        for changed in (self.exports.changed, self.measurement.changed):
            changed.connect(self.refresh)
        self.desk.queue.changed.connect(self.refresh)
        for changed in (
            self.desk.progress.changed, self.desk.project.changed, self.desk.settings.changed,
            self.exports.makings.changed,
        ):  # fmt: skip
            changed.connect(self._follow)

    def _arrange(self) -> None:
        """Formats at the left, plan and outcome at the right; each scrolls by itself."""
        left, columns = ScrollColumn(spacing=8), self._columns.items
        for headline, names in GROUPS:
            left.column.addWidget(Label(headline, "headline"))
            for name in names:
                left.column.addWidget(self.cards[name])
            left.column.addSpacing(6)
        left.column.addStretch(1)
        columns.addWidget(left, 2)
        columns.addWidget(self._rail, 1)
        self._rail.setMinimumWidth(_NARROW)
        self._rail.setMaximumWidth(_RAIL)
        self._made.setSpacing(12)
        rail = self._rail.column
        rail.addWidget(self.plan)
        rail.addLayout(self._made)
        for widget in (self.stop, self.earlier):
            rail.addWidget(widget)
        rail.addStretch(1)
        self.body.addWidget(self._columns, 1)
        self.body.addStretch(0)
        self.empty.addWidget(
            EmptyView(
                "export", "Nothing to export yet",
                "Once a run has saved its first checkpoint, the model can be taken to llama.cpp, "
                "Ollama, LM Studio, Transformers and mlx-lm.",
                ("Go to Train", lambda: self.leave.emit("train")),
            ),
            1,
        )  # fmt: skip


def _acts(made: Making, exports: Exports) -> list[tuple[str, Callable[[], object]]]:
    """What can be done with an export that ended."""
    acts: list[tuple[str, Callable[[], object]]] = []
    if made.doing in {"failed", "stopped"}:
        acts.append(("Retry", partial(exports.makings.retry, made)))
    if made.doing == "failed":
        acts.append(("Copy Details", partial(_copy_details, made)))
    if made.doing == "done":
        model = exports.plan.model if exports.plan else ""
        acts.append((SHOW, partial(reveal, made.out)))
        acts.append(("Copy Run Command", partial(_copy, made, model)))
    return acts


def _copy(made: Making, model: str) -> None:
    """How to run it in the program it is for, to the clipboard."""
    files = list(made.report.get("files", {}))
    QGuiApplication.clipboard().setText(run_command(made.form, model, files, str(made.out)))


def _copy_details(made: Making) -> None:
    """What went wrong, for somebody who knows."""
    if made.failed is not None:
        QGuiApplication.clipboard().setText(problem_of(made.failed, made.tail).details)
