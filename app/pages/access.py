"""Answers to the sheet that asks for a token, for whichever page opened it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from app.models.hub_model import hub_page
from app.problems import problem_of, without_commands
from app.widgets.gate_sheet import GateSheet
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from app.models.errand import Errand

_TOKENS = "settings/tokens"


def attend(gate: GateSheet, keys: Errand, then: Callable[[], object]) -> None:
    """Answer a sheet that asks for a token: keep it, forget it, say where the one in use is from.

    The token goes to the worker's stdin and is not kept here.
    """

    def kept(data: dict[str, Any]) -> None:
        gate.say_source(data["source"])
        if data["act"] == "store":
            gate.accept()
            then()

    def failed(why: events.Failed) -> None:
        gate.say_failed(problem_of(without_commands(why)).text)

    def store(value: str) -> None:
        keys.ask(jobs.TokenJob(act="store", value=value), kept, failed)

    gate.given.connect(store)
    gate.tokens_wanted.connect(lambda: open_address(hub_page(_TOKENS)))
    gate.forgotten.connect(lambda: keys.ask(jobs.TokenJob(act="forget"), kept, failed))
    keys.ask(jobs.TokenJob(act="show"), kept, failed)


def open_token_sheet(parent: QWidget, keys: Errand) -> GateSheet:
    """The token alone, of no model: where the one in use is from, another, or none."""
    gate = GateSheet(parent)
    attend(gate, keys, lambda: None)
    gate.finished.connect(lambda _: keys.cancel())
    gate.open()
    return gate


def open_address(address: str) -> None:
    """In the person's browser."""
    QDesktopServices.openUrl(QUrl(address))
