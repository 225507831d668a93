"""Rows held out, as a pure function of the data and the seed: neighbours stay on one side.

What belongs together is a group, and a group is learnt or held out whole: rows that ask the same,
all windows of one text, one document of many, a stretch of a single document.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from mlx_lora.data.formats import Completion, Conversation, Document

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        self._asked, self._whole, self._counts = array("Q"), array("Q"), array("L")
        self._documents = 0

    def add(self, example: Example, rows: int) -> None:
        """One more example, and how many rows it gave."""
        self._documents += isinstance(example, Document)
        asked, whole = _grouping(example)
        self._whole.append(_key(whole))
        self._asked.append(_key(asked) if asked else self._whole[-1])
        self._counts.append(rows)

    def held(self, fraction: float, seed: int) -> list[bool]:
        """For every row whether it is held out; about `fraction`, at least one group, never all."""
        total = sum(self._counts)
        if self._documents and self._documents * fraction < _WHOLE:
            keys = self._stretches(max(1, math.ceil(total * fraction)))
        else:
            keys = [k for k, n in zip(self._keys(), self._counts, strict=True) for _ in range(n)]
        return hold_out(keys, fraction, seed)

    def _keys(self) -> list[int]:
        """By what is asked; where very many rows ask the same, by all they hold."""
        sizes = Counter(self._asked)
        most = max(_FEW, _SHARE * len(self._asked))
        pairs = zip(self._asked, self._whole, strict=True)
        return [asked if sizes[asked] <= most else whole for asked, whole in pairs]

    def _stretches(self, length: int) -> list[int]:
        """Keys of stretches of about `length` rows, none across the border of two examples."""
        keys: list[int] = []
        key = 0
        for count in self._counts:
            parts = max(1, round(count / length))
            keys += [key + at * parts // count for at in range(count)]
            key += parts
        return keys


def hold_out(keys: Sequence[int], fraction: float, seed: int) -> list[bool]:
    """For every row whether it is held out: groups are drawn whole, until the share is reached.

    Never all, and nothing where there is only one group or the fraction is 0.
    """
    sizes: dict[int, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    if fraction <= 0 or len(sizes) < 2:  # noqa: PLR2004
        return [False] * len(keys)
    wanted, order = max(1, round(len(keys) * fraction)), list(sizes)
    random.Random(f"split/{seed}").shuffle(order)
    held, count = set[int](), 0
    for key in order[:-1]:
        if held and count + sizes[key] > wanted:
            continue
        held.add(key)
        count += sizes[key]
        if count >= wanted:
            break
    return [key in held for key in keys]


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
