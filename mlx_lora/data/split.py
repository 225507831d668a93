"""Rows held out, as a pure function of the data and the seed: neighbours stay on one side.

What belongs together is a group, and a group is learnt or held out whole: rows that ask the same,
all windows of one text, one document of many, a stretch of a single document.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from typing import TYPE_CHECKING

import numpy as np

from mlx_lora.data.formats import Completion, Conversation, Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlx_lora.data.formats import Example

# a shorter first question ("Hi") makes no group: the whole conversation does
_ASKED = 20
# documents are held out whole where so many share one held-out part
_WHOLE = 2
# a question that is asked more often than so many times, and in such a share of the rows, is a task
_FEW, _SHARE = 10, 0.02


class Groups:
    """Which rows belong together; a few bytes a row."""

    def __init__(self) -> None:
        self._asked, self._whole, self._counts = array("Q"), array("Q"), array("I")
        self._documents = 0

    def add(self, example: Example, rows: int) -> None:
        """One more example, and how many rows it gave."""
        self._documents += isinstance(example, Document)
        asked, whole = _grouping(example)
        self._whole.append(_key(whole))
        self._asked.append(_key(asked) if asked else self._whole[-1])
        self._counts.append(rows)

    def held(self, fraction: float, seed: int) -> NDArray[np.bool_]:
        """For every row (rows,) whether it is held out; about `fraction`, at least one, not all."""
        counts = np.frombuffer(self._counts, np.uint32)
        if self._documents and self._documents * fraction < _WHOLE:
            keys = _stretches(counts, max(1, math.ceil(int(counts.sum()) * fraction)))
        else:
            keys = np.repeat(self._keys(), counts)
        return hold_out(keys, fraction, seed)

    def _keys(self) -> NDArray[np.uint64]:
        """By what is asked; where very many rows ask the same, by all they hold."""
        asked, whole = (np.frombuffer(keys, np.uint64) for keys in (self._asked, self._whole))
        found, sizes = np.unique(asked, return_counts=True)
        tasks = found[sizes > max(_FEW, _SHARE * len(asked))]
        return np.where(np.isin(asked, tasks), whole, asked) if len(tasks) else asked


def hold_out(keys: NDArray[np.uint64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """For every row (rows,) whether it is held out: rows of one key are drawn together.

    Groups are taken in the order of a hash of key and seed until the share is reached; never all,
    and none where there is only one group or the fraction is 0.
    """
    found, sizes = np.unique(keys, return_counts=True)
    if fraction <= 0 or len(found) < 2:  # noqa: PLR2004
        return np.zeros(len(keys), np.bool_)
    held = np.zeros(len(found), np.bool_)
    wanted, count = max(1, round(len(keys) * fraction)), 0
    for group in np.argsort(_mixed(found, seed), kind="stable")[:-1]:
        size = int(sizes[group])
        if count and count + size > wanted:
            continue
        held[group] = True
        count += size
        if count >= wanted:
            break
    marked: NDArray[np.bool_] = held[np.searchsorted(found, keys)]
    return marked


def _stretches(counts: NDArray[np.uint32], length: int) -> NDArray[np.uint64]:
    """Keys of stretches of about `length` rows, none across the border of two examples."""
    keys: list[int] = []
    key = 0
    for count in counts.tolist():
        parts = max(1, round(count / length))
        keys += [key + at * parts // count for at in range(count)]
        key += parts
    return np.array(keys, np.uint64)


def _mixed(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A hash of every key and the seed: SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        value = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value ^= value >> np.uint64(shift)
            value *= np.uint64(factor)
        value ^= value >> np.uint64(31)
        return value


def _key(text: str) -> int:
    encoded = text.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())


def _grouping(example: Example) -> tuple[str, str]:
    """(what rows that belong together share, all it holds); nothing is shared where it is empty."""
    if isinstance(example, Completion):
        asked = f"{example.system}\0{example.prompt}"
        return asked, f"{asked}\0{example.completion}"
    if isinstance(example, Conversation):
        asked = next((m.content for m in example.messages if m.role == "user"), "")
        whole = "\0".join(m.content for m in example.messages)
        return asked if len(asked) >= _ASKED else "", whole
    return "", f"{example.row}\0{example.text}" if isinstance(example, Document) else example.text
