"""The third step: how it learns, and what that asks of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.models.advice import advise, said
from app.models.fields import PLACES, idle
from app.models.foresight import Foresight
from app.models.outlook import look_ahead
from app.models.probing import Probing
from app.models.recipe import (
    changed,
    find_errors,
    reset,
    sentence_of,
    value_of,
    values,
    with_preset,
    with_values,
)
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.project import build_run_config, recipe_of
from app.steps import data_fits
from app.widgets.button import Button, Segments
from app.widgets.config_form import ConfigForm
from app.widgets.outlook_rail import OutlookRail
from app.words import MACHINE, duration, size
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from app.desk import Desk
    from app.models.advice import Hint
    from app.models.outlook import Outlook
    from app.models.recipe import Place

_PRESETS = (
    ("quick", "Quick"), ("balanced", "Balanced"), ("thorough", "Thorough"), ("demo", "Sample"),
    ("custom", "Custom"),
)  # fmt: skip
# typing is one change once it rests
_REST = 120


class ConfigurePage(Page):
    """Presets, fields, and at the right what is to be expected."""

    key, title = "configure", "Configure training"
    purpose = "The preset suits most; change only what you want to."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.foresight, self.probing = Foresight(desk), Probing(desk)
        self.outlook: Outlook | None = None
        self.errors: dict[Place, str] = {}
        self.advice: list[Hint] = []
        self._typed: dict[Place, Any] = {}
        self._custom: dict[str, Any] | None = None
        self._rest = QTimer(self, singleShot=True, interval=_REST)
        self._rest.timeout.connect(self.flush)
        self.suit = self.add_action(Button("Suit to This Data", self._apply_advice))
        self.presets = Segments(_PRESETS, self._choose_preset, name="Preset")
        self._actions.addWidget(self.presets, 0, Qt.AlignmentFlag.AlignVCenter)
        self.form, self.rail = ConfigForm(), OutlookRail()
        self._lay_out()
        self.form.edited.connect(self._edit)
        self.form.reset.connect(self._reset)
        self.form.reset_all.clicked.connect(self._reset_all)
        self.rail.memory.wanted.connect(self._apply_fix)
        self.rail.memory.measuring.asked.connect(self.flush)
        self.rail.memory.measuring.asked.connect(self.probing.toggle)
        self.rail.memory.measuring.used.connect(
            lambda batch: self._edit((("training", "batch_size"), batch))
        )
        self.probing.changed.connect(self._refresh)
        self.foresight.changed.connect(self._refresh)
        self.foresight.lost.connect(self._lose)
        desk.project.changed.connect(self._refresh)
        desk.settings.changed.connect(self._refresh)
        desk.queue.changed.connect(self.changed)
        desk.training.started.connect(lambda: self.show_state("ready"))
        self._refresh()

    def hint(self) -> str:
        """What is wrong, or what is to be expected."""
        if self.errors:
            return (
                "One value needs to be changed"
                if len(self.errors) == 1
                else (f"{len(self.errors)} values need to be changed")
            )
        if not data_fits(self.desk.chosen):
            return "The data is being read with this model"
        if self.outlook is None:
            return "The model cannot be read" if self.state == "error" else "Estimating…"
        if self.outlook.verdict == "large":
            return f"This needs more memory than this {MACHINE} has for it"
        need = size(self.outlook.need)
        if self.outlook.pace is None:
            return f"About {need} of memory"
        time = duration(self.outlook.pace.seconds)
        about = "U" + time[1:] if time.startswith("under") else f"About {time}"
        return f"{about}, {need} of memory"

    def primary(self) -> Primary:
        """Start, or line up behind the run at work; on to a run that is there already."""
        if self._is_done():
            return Primary()
        told = self.outlook is not None and self.state != "loading"
        ready = told and not self.errors and data_fits(self.desk.chosen)
        text = "Add to Queue" if self.desk.queue.running else "Start Training"
        large = self.outlook is not None and self.outlook.verdict == "large"
        return Primary(text, ready and not large, "Start Anyway" if ready and large else "")

    def act(self) -> None:
        """Start the run, or go to the one that is there."""
        self.flush()
        if self._is_done():
            self.leave.emit("train")
        elif self.primary().enabled:
            self._start()

    def act_shortcut(self) -> None:
        """Start although the forecast advises against it."""
        self.flush()
        if self.primary().shortcut:
            self._start()

    def entered(self) -> None:
        """The model may be another, and another run may have been measured."""
        self.foresight.ask()
        self._refresh()

    def flush(self) -> None:
        """Take over what was typed."""
        self._rest.stop()
        typed, self._typed = self._typed, {}
        if typed:
            self.desk.project.update(settings=with_values(self.desk.chosen, typed))

    def _start(self) -> None:
        self.desk.training.start()
        if self.desk.training.checking:
            self.show_loading("Checking model and data…")

    def _is_done(self) -> bool:
        """Whether the project's run was made from exactly this."""
        project = self.desk.chosen
        return project.run is not None and project.recipe == recipe_of(project)

    def _edit(self, what: tuple[Place, Any]) -> None:
        place, value = what
        self._typed[place] = value
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            self._rest.start()
        else:
            self.flush()

    def _reset(self, place: Place) -> None:
        self._typed.pop(place, None)
        self.desk.project.update(settings=reset(self.desk.chosen, [place]))

    def _reset_all(self) -> None:
        self._choose_preset(self.desk.chosen.preset)

    def _choose_preset(self, preset: str) -> None:
        """A preset as it is, with what the model needs; Custom is what was there before."""
        self.flush()
        project = self.desk.chosen
        if preset == "custom":
            if self._custom is not None:
                self.desk.project.update(**self._custom)
            else:
                self.form.unfold()
            self._refresh()
            return
        if self._own(project.preset):
            self._custom = {"preset": project.preset, "settings": project.settings}
        settings = with_preset(project, preset, PLACES)
        fresh = {"preset": preset, "settings": settings}
        for group, items in self.foresight.needed(preset).items():
            settings.setdefault(group, {}).update(items)
        self.desk.project.update(**fresh)
        self._refresh()

    def _apply_fix(self, number: int) -> None:
        """One press on what helps; the last is another model."""
        self.flush()
        if self.outlook is None or number >= len(self.outlook.fixes):
            self.leave.emit("model")
            return
        changes = self.outlook.fixes[number].changes
        self.desk.project.update(settings=with_values(self.desk.chosen, changes))

    def _apply_advice(self) -> None:
        """One press for everything that suits the model and the data better."""
        self.flush()
        advice = self.advice
        changes = {hint.place: hint.value for hint in advice}
        self.desk.project.update(settings=with_values(self.desk.chosen, changes))
        self.banner.say("The settings suit the model and the data now", said(advice), "ok")

    def _own(self, preset: str) -> set[Place]:
        """Places a person changed: not those that only make the model fit."""
        now, needed = values(self.desk.chosen), self.foresight.needed(preset)
        return {
            place
            for place in changed(self.desk.chosen, PLACES)
            if value_of(needed, place) is None or value_of(needed, place) != value_of(now, place)
        }

    def _lose(self, error: UserError) -> None:
        self.show_error(problem_of(error), ("Choose a Model", lambda: self.leave.emit("model")))

    def _refresh(self) -> None:
        """Everything from the project."""
        project = self.desk.chosen
        if self.isVisible():
            self.foresight.follow()
        self.errors = find_errors(project, PLACES)
        self._foresee()
        differing = changed(project, PLACES)
        now = values(project)
        self.form.show_values(now, differing, self.errors, idle(now, self.foresight.base))
        self.form.fold_out_for(self.errors)
        self.presets.buttons["demo"].setVisible(project.preset == "demo")
        self.presets.choose("custom" if self._own(project.preset) else project.preset)
        self.changed.emit()

    def _foresee(self) -> None:
        """What is to be expected of the values as they are; the last that could be told else."""
        given = self.foresight.given()
        base, rows = (given.base, given.rows) if given else (None, None)
        self.advice = advise(self.desk.chosen, base.shape, rows) if base and rows else []
        self.suit.setVisible(bool(self.advice))
        self.suit.setToolTip(said(self.advice))
        self.suit.setAccessibleDescription(said(self.advice))
        if given is None:
            self.outlook = None
            self.rail.show_nothing()
            return
        try:
            config = build_run_config(self.desk.chosen)
            known = self.probing.known(config)
            self.outlook = look_ahead(config, given, known.own if known else None)
        except UserError as error:
            group, _, name = error.where.partition(".")
            if error.where.startswith("--layers"):
                group, name = "adapter", "layers"
            if (group, name) in PLACES:
                self.errors.setdefault((group, name), sentence_of(error))
            self.rail.fade()
            return
        self.rail.show_outlook(self.outlook, config)
        problem = self.probing.problem
        self.rail.show_measured(
            known, config.training.batch_size, self.probing.doing, problem.text if problem else ""
        )

    def _lay_out(self) -> None:
        columns, left = QHBoxLayout(), QVBoxLayout()
        holder = QWidget()
        holder.setProperty("role", "clear")
        holder.setLayout(columns)
        columns.setContentsMargins(0, 0, 0, 0)
        columns.setSpacing(16)
        left.addWidget(self.form)
        left.addWidget(self.rail.plan)
        left.addStretch(1)
        columns.addLayout(left, 1)
        columns.addWidget(self.rail, 0, Qt.AlignmentFlag.AlignTop)
        self.body.addWidget(holder)
        self.body.addStretch(1)
