"""Rows that are almost the same: MinHash over runs of three words (Broder 1997), by rensa."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rensa import RMinHash

# 16 bands of 4 rows find pairs of Jaccard 0.8 with probability 0.9998; the rest is verified
_HASHES, _BANDS, _SEED = 64, 16, 1
LIKE = 0.8
_RUN = 3
# shorter rows differ by a word or two and mean another thing
_FEWEST = 12
# some 400 bytes a row are kept
MOST = 100_000


class Likeness:
    """Remembers rows and finds those like them: the first `MOST` of them."""

    def __init__(self) -> None:
        from rensa import RMinHashLSH

        self._index = RMinHashLSH(LIKE, _HASHES, _BANDS)
        self._kept: list[RMinHash] = []
        self._seen: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether no more rows are remembered."""
        return len(self._kept) >= MOST

    def is_like_another(self, texts: Sequence[str], *, keep: bool) -> bool:
        """Whether a row before was almost this one; with `keep` it is remembered where not.

        A copy, word for word, is no almost copy.
        """
        words = " ".join(texts).lower().split()
        if len(words) < _FEWEST:
            return False
        same = hash(tuple(texts))
        if same in self._seen:
            return False
        from rensa import RMinHash

        mark = RMinHash(_HASHES, _SEED)
        mark.update([" ".join(words[at : at + _RUN]) for at in range(len(words) - _RUN + 1)])
        found = any(mark.jaccard(self._kept[key]) >= LIKE for key in self._index.query(mark))
        if keep and not self.full:
            self._seen.add(same)
        # of rows that are alike one is enough: a thousand would be compared with each other
        if keep and not found and not self.full:
            self._index.insert(len(self._kept), mark)
            self._kept.append(mark)
        return found
