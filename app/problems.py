"""An error in the words a person reads: what happened, is my work safe, one thing to do."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import msgspec

from mlx_lora import __version__
from mlx_lora.events import Failed
from mlx_lora.storage import hide_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.errors import UserError

_TITLES = {
    "bad_adapter": "This adapter cannot be used",
    "bad_data": "This data cannot be used yet",
    "bad_model": "This model cannot be used",
    "bad_option": "A setting needs another value",
    "bad_template": "The model’s chat form cannot be used",
    "broken_export": "The exported file did not pass its check",
    "busy": "Another Understudy is training",
    "cannot_export": "This model does not fit that format",
    "crashed": "Training ended unexpectedly",
    "damaged_checkpoint": "A checkpoint is damaged",
    "damaged_model": "The model's files are damaged",
    "damaged_run": "This run's files are damaged",
    "data_changed": "The data is another one now",
    "disk_full": "The disk is full",
    "diverged": "Training went off course",
    "engine": "The engine stopped",
    "exists": "It is already there",
    "finished": "This run is finished",
    "in_use": "Runs need this model",
    "internal": "Something went wrong in Understudy",
    "killed": "The system ended the work",
    "missing_shard": "A file of the model is missing",
    "model_changed": "The model is another one now",
    "network": "No connection",
    "no_access": "The hub does not open this to you",
    "no_adapter": "Nothing has been trained yet",
    "no_keychain": "The token cannot be kept safely here",
    "no_llama_cpp": "The file cannot be checked here",
    "no_permission": "A folder may not be written to",
    "no_such_data": "The data is not there any more",
    "no_such_model": "The model is not there any more",
    "no_such_run": "The run is not there any more",
    "no_template": "This model has no chat form",
    "no_trash": "There is no Trash for this disk",
    "no_weights": "The model's weights are missing",
    "not_responding": "The worker is not responding",
    "out_of_memory": "Memory ran out",
    "peer_lost": "Another machine of this run is gone",
    "storage": "The disk refused",
    "unsupported_machine": "MLX does not run on this Mac",
    "unsupported_model": "This kind of model cannot be trained",
    "wrong_checkpoint": "This checkpoint is of another run",
}


class Problem(msgspec.Struct, frozen=True):
    """What a banner or an error view says.

    Attributes:
        safe: what of the person's work is kept, in words.
        details: for Copy: code, place, versions, the end of the log; no path of the person.
    """

    title: str
    text: str
    safe: str = ""
    details: str = ""
    code: str = ""


def problem_of(error: UserError | Failed, tail: Sequence[str] = ()) -> Problem:
    """An error or the failed end of a job, for a person."""
    code, where = error.code, error.where
    why = error.why[:1].upper() + error.why[1:]
    fix = error.fix[:1].upper() + error.fix[1:]
    text = " ".join(_ended(part) for part in (why, fix) if part)
    safe = f"Kept: {error.saved}." if error.saved else ""
    facts = [f"{code} {where}: {error.why}", f"Understudy {__version__}", platform.platform()]
    details = hide_home("\n".join([*facts, *(line.rstrip() for line in tail)]))
    return Problem(_TITLES.get(code, "That did not work"), text, safe, details, code)


def without_commands(error: UserError | Failed) -> Failed:
    """The same without advice for a terminal; a button stands beside it in the window."""
    parts = [part for part in error.fix.split("; ") if "understudy " not in part]
    return Failed(
        code=error.code, where=error.where, why=error.why, fix="; ".join(parts), saved=error.saved
    )


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!", "…")) else f"{sentence}."


def internal_problem(details: str) -> Problem:
    """A bug of ours, for the last-resort handler."""
    text = "This is our mistake. Your data and everything that was saved are untouched."
    facts = f"Understudy {__version__} · {platform.platform()}\n{details}"
    return Problem(_TITLES["internal"], text, "", facts, "internal")


def is_failed(outcome: object) -> bool:
    """Whether a job ended with an error."""
    return isinstance(outcome, Failed)
