"""The dataset doctor: looks at every row once, keeps a few bytes of each, and says what is wrong.

Nothing of a row's text is kept but where it stands, so a file of any size is looked at in bounded
memory.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlx_lora.data.checks import (
    answer_of,
    is_odd_order,
    mostly_json,
    reads_as_json,
    seen_in,
    texts_of,
)
from mlx_lora.data.findings import CODES, words
from mlx_lora.data.formats import Document
from mlx_lora.data.near import Likeness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlx_lora.data.examples import Found
    from mlx_lora.data.formats import Example
    from mlx_lora.data.render import Rendered
    from mlx_lora.errors import UserError

# fewer rows teach little; fewer held-out rows say little
FEW_ROWS, FEW_HELD_OUT = 10, 5
_NAMED, _PLACES = 200, 20
# so many times the median, and the 95th percentile: a length that stands out
_FAR, _BEYOND = 20, 4


class Hits(msgspec.Struct):
    """Rows something was found in: how many, the numbers of the first ones, where and why."""

    count: int = 0
    rows: list[int] = []
    places: list[dict[str, str]] = []

    def add(self, row: int, fault: UserError | None = None) -> None:
        """One more row."""
        self.count += 1
        if len(self.rows) < _NAMED:
            self.rows.append(row)
        if fault is not None and len(self.places) < _PLACES:
            self.places.append({"where": fault.where, "why": fault.why, "fix": fault.fix})


class Doctor:
    """Sees rows one after the other; `findings` at the end.

    Attributes:
        first_fault: the first row that training would refuse, or None.
        json_answers: answers that are JSON, answers that look as if meant to be, all answers.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hits: dict[tuple[str, str], Hits] = {}
        self._likeness = Likeness()
        self._keys: dict[str, tuple[array[int], array[int]]] = {}
        self.first_fault: UserError | None = None
        self.json_answers = [0, 0, 0]

    def see_fault(self, found: Found, fault: UserError, *, refused: bool = False) -> None:
        """A row that training would refuse."""
        code = "refused" if refused else found.trouble
        self._hit(code, found.split).add(found.row.number, fault)
        self.first_fault = self.first_fault or fault

    def see_empty(self, found: Found) -> None:
        """A row with no text or no answer."""
        self._hit("empty", found.split).add(found.row.number)

    def see(self, split: str, example: Example, rows: list[Rendered]) -> None:
        """A row that can be learnt, as the model sees it."""
        for row in rows:
            self._look_at_rendering(split, row)
        number = rows[0].row if rows else example.row
        texts = texts_of(example)
        for code in seen_in("\n".join(texts)):
            self._hit(code, split).add(number)
        if isinstance(example, Document):
            return
        if is_odd_order(example):
            self._hit("role_order", split).add(number)
        self._look_at_answer(split, number, answer_of(example))
        self._compare(split, number, texts)

    def close(self) -> None:
        """No more rows come: what they are compared with, most of what is kept, is let go."""
        del self._likeness

    def findings(
        self, lengths: NDArray[np.uint32], numbers: NDArray[np.uint32], learnt: int, held: int
    ) -> list[dict[str, Any]]:
        """All of them, the weightiest first: code, split, count, rows, places, and words.

        `lengths` (rows,) in tokens and `numbers` (rows,) are those of the training file; `learnt`
        and `held` how many rows are trained on and held out.
        """
        self._repeated()
        self._outstanding(lengths, numbers)
        if learnt + held < FEW_ROWS:
            self._hits["few_rows", "train"] = Hits(learnt + held)
        if held < FEW_HELD_OUT:
            self._hits["few_validation" if held else "no_validation", "valid"] = Hits(held)
        parse, _, answers = self.json_answers
        if not mostly_json(parse, answers):
            self._hits = {key: hits for key, hits in self._hits.items() if key[0] != "bad_json"}
        order = {code: at for at, code in enumerate(CODES)}
        found = sorted(self._hits.items(), key=lambda item: order[item[0][0]])
        return [
            {
                "code": code,
                "split": split,
                "count": hits.count,
                "rows": hits.rows,
                "places": hits.places,
                **words(code, hits.count, split, self._limit),
            }
            for (code, split), hits in found
        ]

    def _hit(self, code: str, split: str) -> Hits:
        return self._hits.setdefault((code, split), Hits())

    def _look_at_rendering(self, split: str, row: Rendered) -> None:
        if row.dropped or not row.targets:
            self._hit("dropped" if row.dropped else "no_target", split).add(row.row)
            return
        if row.cut:
            self._hit("cut", split).add(row.row)
        if row.end_cut:
            self._hit("cut_answer", split).add(row.row)
        elif not row.stops:
            self._hit("no_stop", split).add(row.row)
        if row.control:
            self._hit("control_tokens", split).add(row.row)

    def _look_at_answer(self, split: str, number: int, answer: str | None) -> None:
        if answer is None:
            return
        reads = reads_as_json(answer)
        self.json_answers[0] += reads is True
        self.json_answers[1] += reads is not None
        self.json_answers[2] += 1
        if not reads:
            self._hit("bad_json", split).add(number)

    def _compare(self, split: str, number: int, texts: tuple[str, ...]) -> None:
        """Note what a row holds, and whether one like it was there before."""
        key = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
        keys, numbers = self._keys.setdefault(split, (array("Q"), array("I")))
        keys.append(int.from_bytes(key))
        numbers.append(number)
        code = {"train": "near_duplicate", "valid": "near_leak"}.get(split)
        if code and self._likeness.is_like_another(texts, keep=split == "train"):
            self._hit(code, split).add(number)

    def _repeated(self) -> None:
        """Copies, and held-out rows that are learnt too."""
        keys, numbers = self._arrays("train")
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        copies = order[1:][ordered[1:] == ordered[:-1]]
        self._found("duplicate", "train", numbers[np.sort(copies)])
        held, held_numbers = self._arrays("valid")
        if len(held):
            self._found("leak", "valid", held_numbers[np.isin(held, keys)])

    def _arrays(self, split: str) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        keys, numbers = self._keys.get(split, (array("Q"), array("I")))
        return np.frombuffer(keys, np.uint64), np.frombuffer(numbers, np.uint32)

    def _outstanding(self, lengths: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> None:
        if len(lengths) < FEW_ROWS:
            return
        far = max(_FAR * float(np.median(lengths)), _BEYOND * float(np.percentile(lengths, 95)))
        self._found("extreme_length", "train", numbers[lengths > far])

    def _found(self, code: str, split: str, numbers: NDArray[np.uint32]) -> None:
        if len(numbers):
            self._hits[code, split] = Hits(len(numbers), numbers[:_NAMED].tolist())
