"""Small datasets that are bundled, written for this project: one for each format."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.library import assets

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "sample:"


class Sample(msgspec.Struct, frozen=True):
    """One of them.

    Attributes:
        key: its name in DATA, behind `sample:`.
        sentence: what it teaches.
        form: what its rows are, in words.
        file: name of its file or folder.
    """

    key: str
    title: str
    sentence: str
    form: str
    file: str

    @property
    def source(self) -> str:
        """What DATA names it by."""
        return PREFIX + self.key

    @property
    def path(self) -> Path:
        """Its file or folder."""
        return assets() / "samples" / self.file


SAMPLES = (
    Sample(
        "quiz", "Quiz Maker",
        "Makes questions with four answers out of a short lesson, as JSON.",
        "question + answer", "quiz.jsonl",
    ),
    Sample(
        "support", "Support Chats", "Answers customers of a lamp shop over several turns.",
        "conversations (ShareGPT)", "support.json",
    ),
    Sample(
        "plain-words", "Plain Words", "Says stiff official sentences in plain words.",
        "instructions (Alpaca)", "plain-words.json",
    ),
    Sample(
        "faq", "Library Desk", "Answers what people ask at a public library.",
        "a table (CSV)", "faq.csv",
    ),
    Sample(
        "tools", "Kitchen Helper", "Calls tools to set timers and convert measures.",
        "conversations with tools", "tools.jsonl",
    ),
    Sample(
        "diary", "Diary Lines", "Writes one short line about a day.", "rows of text",
        "diary.jsonl",
    ),
    Sample(
        "stories", "Short Stories", "Tells short stories for children.", "a folder of texts",
        "stories",
    ),
)  # fmt: skip


def find_sample(source: str) -> Path:
    """The file or folder of `sample:KEY`.

    Raises:
        UserError: `no_such_data`, with the nearest name.
    """
    key = source.removeprefix(PREFIX)
    paths = {sample.key: sample.path for sample in SAMPLES}
    if key not in paths:
        near = difflib.get_close_matches(key, paths, n=1)
        fix = f"did you mean sample:{near[0]}?" if near else f"choose among {', '.join(paths)}"
        raise UserError("no_such_data", source, "there is no such sample", fix)
    return paths[key]


def story_texts() -> list[str]:
    """The bundled stories, for whoever needs a page of plain prose."""
    return [
        path.read_text(encoding="utf-8") for path in sorted(find_sample("sample:stories").iterdir())
    ]
