"""What a dataset amounts to for a model: tokens, a histogram, and what a person should look at."""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics
from array import array
from typing import TYPE_CHECKING, Any

from mlx_lora.data.formats import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlx_lora.data.dataset import Dataset, Read
    from mlx_lora.data.reading import Source
    from mlx_lora.data.render import Rendered

# fewer rows teach little; fewer held-out rows say little
FEW_ROWS, FEW_HELD_OUT = 10, 5
_BUCKETS, _NAMED = 28, 200
# lengths beyond so many times the 95th percentile share the last bucket
_TAIL = 2.5


def measure(source: Source, read: Read, dataset: Dataset, limit: int) -> dict[str, Any]:
    """The figures of a dataset: lengths are in tokens, before rows are cut at `limit`.

    `trained_tokens + masked_tokens + cut_tokens` are `tokens`, over all rows but those of a test
    split. `issues` are `issues_of`.
    """
    rendered = read[2]
    rows = [row for split in ("train", "valid") for row in rendered.get(split, ())]
    lengths = sorted(whole_length(row) for row in rows)
    trained, cut = sum(row.targets for row in rows), sum(row.cut for row in rows)
    return {
        "rows_read": len(rows) + sum(map(len, read[1].values())),
        "tokens": sum(lengths),
        "trained_tokens": trained,
        "masked_tokens": sum(lengths) - trained - cut,
        "cut_tokens": cut,
        "mean_tokens": round(statistics.mean(lengths), 1),
        "p95_tokens": lengths[math.ceil(0.95 * len(lengths)) - 1],
        "limit": limit,
        "own_validation": "valid" in source.files,
        "histogram": histogram(lengths),
        "issues": issues_of(source, read, dataset),
    }


def whole_length(row: Rendered) -> int:
    """Tokens of a row before it was cut."""
    return len(row.tokens) + row.cut


def histogram(lengths: Sequence[int]) -> dict[str, list[int]]:
    """`edges` (n + 1, ascending) and `counts` (n) of sorted lengths, in steps of 1, 2 or 5 x 10^k.

    A bucket holds `edge <= length < next edge`; the last one also everything longer.
    """
    longest = lengths[-1]
    p95 = lengths[math.ceil(0.95 * len(lengths)) - 1]
    end = min(longest, math.ceil(p95 * _TAIL)) + 1
    step = next(
        step
        for power in itertools.count()
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if end / step <= _BUCKETS
    )
    number = math.ceil(end / step)
    counts = [0] * number
    for length in lengths:
        counts[min(length // step, number - 1)] += 1
    return {
        "edges": [step * at for at in range(number)] + [max(step * number, longest)],
        "counts": counts,
    }


def issues_of(source: Source, read: Read, dataset: Dataset) -> list[dict[str, Any]]:
    """What a person should look at: code, split, how many rows, the numbers of the first 200.

    `cut` longer than the limit, `empty` no text or no answer, `no_target` nothing to learn within
    the limit, `duplicate` equal to an earlier row, `leak` a held-out row that is also learnt,
    `few_rows`, `few_validation`, `no_validation`.
    """
    _, empty, rendered = read
    splits = {path.name: split for split, path in source.files.items()}
    found = [_issue("empty", splits[file], numbers) for file, numbers in empty.items()]
    for split, rows in rendered.items():
        found.append(_issue("no_target", split, [r.row for r in rows if not r.targets]))
        found.append(_issue("cut", split, [r.row for r in rows if r.cut and r.targets]))
    found += _repeated(read)
    learnt, held = len(dataset.training), len(dataset.validation)
    if learnt + held < FEW_ROWS:
        found.append({"code": "few_rows", "split": "train", "count": learnt + held, "rows": []})
    if held < FEW_HELD_OUT:
        code = "few_validation" if held else "no_validation"
        found.append({"code": code, "split": "valid", "count": held, "rows": []})
    return [issue for issue in found if issue["count"] or issue["code"] == "no_validation"]


def _repeated(read: Read) -> list[dict[str, Any]]:
    """Rows that are there twice, and held-out rows that are learnt too."""
    examples, _, rendered = read
    if any(isinstance(one, Document) for one in examples["train"]):
        return []
    seen: set[bytes] = set()
    twice = []
    for row in rendered["train"]:
        key = _content(row)
        if key in seen:
            twice.append(row.row)
        seen.add(key)
    leaks = [row.row for row in rendered.get("valid", ()) if _content(row) in seen]
    return [_issue("duplicate", "train", twice), _issue("leak", "valid", leaks)]


def _content(row: Rendered) -> bytes:
    return hashlib.sha256(array("q", itertools.chain(row.tokens, row.rest)).tobytes()).digest()


def _issue(code: str, split: str, numbers: Iterable[int]) -> dict[str, Any]:
    rows = list(numbers)
    return {"code": code, "split": split, "count": len(rows), "rows": rows[:_NAMED]}
