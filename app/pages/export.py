"""Export: take what was learnt to other programs, each file checked before it is handed over."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from app.folders import SHOW, reveal
from app.models.export_words import (
    GROUPS,
    WORDS,
    about,
    choice_words,
    export_name,
    meaning,
    percent,
    refusal,
)
from app.models.exports import Exports
from app.models.measurement import Measurement
from app.pages.making_words import making_facts
from app.pages.page import Page, Primary
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.empty import EmptyView
from app.widgets.format_card import FormatCard, FormatFacts
from app.widgets.label import ElidedLabel, Label
from app.widgets.making_card import MakingCard
from app.widgets.sheet import ask
from app.words import plural, size
from mlx_lora.export.commands import run_command
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.desk import Desk
    from app.models.exports import Making

_RAIL, _NARROW = 324, 284


class ExportPage(Page):
    """Every format as a card; the plan, and what came of it, beside them.

    Attributes:
        exports: what can be made, was chosen, and is being made.
        cards: a card for each format, by its name.
    """

    key, title = "export", "Save and export"
    purpose = "Take your model anywhere. Each file is loaded and run once before you get it."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.exports, self.measurement = Exports(desk), Measurement(desk)
        self.show_button = self.add_action(Button(SHOW, self._reveal, icon="reveal"))
        self.cards = {name: FormatCard(WORDS[name].title) for _, names in GROUPS for name in names}
        self.measure = Button("Measure", self._measure, kind="link", name="Measure the loss")
        self.cards["mlx-fused"].add(self.measure)
        self.place = ElidedLabel("", "callout", "text2")
        self.plan_words, self.earlier = Label(wrap=True, tone="text2"), Label(wrap=True)
        self.stop = Button("Stop Exporting", self.exports.stop, kind="danger", icon="stop")
        self._rail, self._made = QVBoxLayout(), QVBoxLayout()
        self._makings: list[tuple[tuple[object, ...], MakingCard]] = []
        self._arrange()
        self.empty.addWidget(
            EmptyView(
                "export", "Nothing to export yet",
                "Once a run has saved its first checkpoint, the model can be taken to llama.cpp, "
                "Ollama, LM Studio, Transformers and mlx-lm.",
                ("Go to Train", lambda: self.leave.emit("train")),
            ),
            1,
        )  # fmt: skip
        self._connect()

    def hint(self) -> str:
        """What will be made, or what is missing."""
        exports = self.exports
        if self.state in {"empty", "loading"}:
            return "Nothing has been trained yet" if self.state == "empty" else ""
        if exports.busy:
            ended = sum(made.doing not in {"waiting", "running"} for made in exports.makings)
            return f"{ended} of {plural(len(exports.makings), 'export')} ended"
        if self.exports.missing:
            return f"Not enough room: {size(self.exports.missing)} more are needed"
        if not exports.chosen:
            return "Choose at least one format"
        return "Every file is read back and compared with the model in the app"

    def primary(self) -> Primary:
        """Make what is chosen."""
        exports = self.exports
        many = f"Export {len(exports.chosen)} Formats" if len(exports.chosen) > 1 else "Export"
        able = self.state not in {"empty", "loading"} and exports.plan is not None
        ready = able and bool(exports.chosen) and not exports.busy and not self.exports.missing
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
        if exports.plan is None:
            return
        for name, card in self.cards.items():
            card.show_facts(self._facts(name), taken=name in exports.chosen)
        self.measure.setVisible("mlx-fused" in exports.plan.instead() and not self.measurement.kept)
        self.measure.setEnabled(self.measurement.job is None)
        self.measure.say("Measuring…" if self.measurement.job else "Measure")
        self._say_plan()
        self._show_makings()
        self.changed.emit()

    def _settle(self) -> None:
        """The state the page is in."""
        exports, usable = self.exports, self.desk.progress.usable
        problem = exports.problem or self.measurement.problem
        if not usable:
            state = "empty"
        elif problem is not None:
            self.show_error(problem)
            return
        elif exports.plan is None:
            self.show_loading("Looking at what can be made…")
            return
        else:
            ended = bool(exports.makings) and not exports.busy
            state = "running" if exports.busy else ("done" if ended else "ready")
        if state != self.state:
            self.show_state(state)  # type: ignore[arg-type]
            self._say_waiting()

    def _say_waiting(self) -> None:
        """Something else is at work: an export waits its turn."""
        running = self.desk.queue.running
        if self.exports.busy and self.desk.progress.live and running is not None:
            text = (
                "Exports wait until training is done, so that both have the machine to themselves."
            )
            self.banner.say("Training is at work", text, "info")

    def _facts(self, name: str) -> FormatFacts:
        plan, words = self.exports.plan, WORDS[name]
        assert plan is not None
        form = plan.formats[name]
        if form.refusal:
            return FormatFacts(
                words.title, words.icon, words.purpose, note=refusal(form, plan), possible=False
            )
        quant = self.exports.quants[name]
        kept = self.measurement.kept if name == "mlx-fused" else {}
        choices = tuple(
            (choice.quant, choice_words(form, choice, kept.get(choice.quant)))
            for choice in form.choices
        )
        note = meaning(quant) if name in self.exports.chosen else ""
        if note and quant == form.recommended and form.why:
            note = f"Advised: {form.why}."
        if quant in kept and name in self.exports.chosen:
            note = f"Measured on held-out rows: {percent(kept[quant])} of the next words stay."
        return FormatFacts(
            words.title, words.icon, words.purpose, choices, quant,
            size(form.choice(quant).nbytes), note,
        )  # fmt: skip

    def _say_plan(self) -> None:
        exports = self.exports
        nbytes, seconds = exports.needed
        lines = [
            f"{size(nbytes)} on disk while they are made, {size(exports.free)} are free.",
            f"Takes {about(seconds)}, with every check.",
        ]
        if self.exports.missing:
            lines[0] = f"{size(nbytes)} are needed, and only {size(exports.free)} are free."
        self.plan_words.setText("\n".join(lines) if exports.chosen else "Nothing is chosen.")
        self.plan_words.set_tone("bad" if self.exports.missing else "text2")
        self.place.setText(show(exports.folder()))
        made = {export_name(e["format"], e["quant"]) for e in self.desk.progress.state.exports}
        self.earlier.setText("\n".join(sorted(made)) or "Nothing yet.")
        self.earlier.set_tone("text" if made else "text2")

    def _show_makings(self) -> None:
        """A card for each, made anew only when what can be done with it is another thing."""
        makings = self.exports.makings
        keys = [(made.form, made.quant, made.doing, bool(made.report)) for made in makings]
        if keys != [key for key, _ in self._makings]:
            for _, card in self._makings:
                card.hide()
                card.deleteLater()
            self._makings = []
            for at, (key, made) in enumerate(zip(keys, makings, strict=True)):
                card = MakingCard(making_facts(made), self._acts(at, made))
                self._made.addWidget(card)
                self._makings.append((key, card))
        for (_, card), made in zip(self._makings, makings, strict=True):
            card.show_facts(making_facts(made))
        self.stop.setVisible(self.exports.busy)

    def _acts(self, at: int, made: Making) -> list[tuple[str, Callable[[], object]]]:
        """What can be done with an export that ended."""
        if made.doing in {"failed", "stopped"}:
            return [("Retry", partial(self.exports.retry, at))]
        if made.doing != "done":
            return []
        model = self.exports.plan.model if self.exports.plan else ""
        return [
            (SHOW, partial(reveal, made.out)),
            ("Copy Run Command", partial(_copy, made, model)),
        ]

    def _measure(self) -> None:
        self.measurement.start(self.exports.trained)

    def _reveal(self) -> None:
        if self.desk.progress.run is not None:
            folder = self.exports.folder()
            reveal(folder if folder.exists() else self.desk.progress.run.folder)

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self.window(), "Where Exports Go", str(self.exports.folder().parent))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(
            lambda name: self.desk.settings.update(exports_folder=show_path(name))
        )
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _connect(self) -> None:
        for name, card in self.cards.items():
            card.wanted.connect(lambda on, name=name: self.exports.choose(name, wanted=on))
            card.quant_chosen.connect(partial(self.exports.set_quant, name))
        self.exports.changed.connect(self.refresh)
        self.measurement.changed.connect(self.refresh)
        self.desk.settings.changed.connect(self.refresh)
        self.desk.queue.changed.connect(self._say_waiting)
        for changed in (self.desk.progress.changed, self.desk.project.changed):
            changed.connect(self._follow)

    def _follow(self) -> None:
        """The run, or what is saved of it, is another one now."""
        if self.isVisibleTo(self.window()):
            self.exports.look()
            self.refresh()

    def _arrange(self) -> None:
        columns, left = QHBoxLayout(), QVBoxLayout()
        columns.setSpacing(16)
        left.setSpacing(10)
        for headline, names in GROUPS:
            left.addWidget(Label(headline, "headline"))
            for name in names:
                left.addWidget(self.cards[name])
        left.addStretch(1)
        columns.addLayout(left, 2)
        rail = QWidget()
        rail.setProperty("role", "clear")
        rail.setMinimumWidth(_NARROW)
        rail.setMaximumWidth(_RAIL)
        rail.setLayout(self._rail)
        self._rail.setContentsMargins(0, 0, 0, 0)
        self._rail.setSpacing(12)
        self._fill_rail()
        columns.addWidget(rail, 1)
        self.body.addLayout(columns)

    def _fill_rail(self) -> None:
        plan = Card("Plan", spacing=8)
        self.folder_button = Button("Choose…", self._choose_folder, name="Choose the folder")
        plan.body.addWidget(self.plan_words)
        plan.body.addWidget(Row(self.place, self.folder_button))
        self._rail.addWidget(plan)
        self._made.setSpacing(12)
        self._rail.addLayout(self._made)
        self._rail.addWidget(self.stop)
        earlier = Card("Made of this run so far", spacing=4)
        earlier.body.addWidget(self.earlier)
        self._rail.addWidget(earlier)
        self._rail.addStretch(1)


def _copy(made: Making, model: str) -> None:
    """How to run it in the program it is for, to the clipboard."""
    files = list(made.report.get("files", {}))
    QGuiApplication.clipboard().setText(run_command(made.form, model, files, str(made.out)))


def show_path(name: str) -> str:
    """A folder as settings keep it: below the home folder as ~/..."""
    from pathlib import Path

    return show(Path(name))
