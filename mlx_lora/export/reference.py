"""What the app itself says: logits of base and adapted model on held-out rows, kept in files.

Files, because a vocabulary of 256 k makes a few hundred positions hundreds of megabytes, and the
model must be gone from memory before the exported one is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec
import numpy as np

from mlx_lora.data.dataset import build_dataset
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.events import Phase
from mlx_lora.lora.store import load_adapter
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from mlx_lora.jobs import MeasureJob
    from mlx_lora.models.loading import LoadedModel

_ROW, _ROWS, _POSITIONS = 128, 16, 1024
# bytes of logits kept for base and adapted each
_ROOM = 200_000_000
# judged on where a run's own rows are not at hand
TEXTS = (
    "Once upon a time there was a king who had three daughters, and the youngest was the fairest.",
    "KING HENRY:\nOnce more unto the breach, dear friends, once more;\nOr close the wall up.",
    "To make tea, boil the water first. Then warm the pot, add the leaves, and let it stand.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))\n",
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid.",
    "Dear Sir or Madam, I am writing about the letter of the third of May, which never came.",
)


class Reference(msgspec.Struct, frozen=True):
    """Rows and what the app says of them.

    Attributes:
        rows: token ids.
        calibration: rows of the training part, to weigh errors by when packing.
        own: whether the rows are the run's own.
        form: how the app held the weights.
        base, adapted: files of float32 logits, row after row, each (length, vocabulary).
    """

    rows: tuple[tuple[int, ...], ...]
    calibration: tuple[tuple[int, ...], ...]
    own: bool
    form: str
    vocabulary: int
    base: Path
    adapted: Path

    @property
    def positions(self) -> int:
        """Next-token predictions compared."""
        return sum(map(len, self.rows))

    def logits(self, path: Path) -> Iterator[np.ndarray]:
        """The rows of one file, each float32 (length, vocabulary)."""
        at = 0
        for row in self.rows:
            count = len(row) * self.vocabulary
            part = np.fromfile(path, np.float32, count, offset=at)
            yield part.reshape(len(row), self.vocabulary)
            at += 4 * count


def make_reference(
    job: MeasureJob, folder: Path, visit: Callable[[LoadedModel, Reference], None] | None = None
) -> Generator[Phase, None, Reference]:
    """Load base and adapter and write their logits into `folder`; the model is gone afterwards.

    `visit` sees the adapted model before it goes.
    """
    yield Phase("loading_model")
    base = load_model(job.model.source, job.model.bits)
    vocabulary = int(base.module(mx.array([[0]])).shape[-1])
    rows, calibration, own = yield from _rows(job, base, vocabulary)
    reference = Reference(
        rows, calibration, own, base.form, vocabulary, folder / "base.f32", folder / "adapted.f32"
    )
    yield Phase("base")
    write_logits(base.module, rows, reference.base)
    adapter = load_adapter(Path(job.adapter), base)
    adapter.train(False)
    yield Phase("adapted")
    write_logits(base.module, rows, reference.adapted)
    if visit is not None:
        visit(base, reference)
    return reference


def write_logits(module: Any, rows: tuple[tuple[int, ...], ...], path: Path) -> None:
    """float32 logits of every row, one after the other."""
    with path.open("wb") as file:
        for row in rows:
            logits = module(mx.array([row]))[0].astype(mx.float32)
            np.array(logits).tofile(file)
            mx.clear_cache()


def _rows(
    job: MeasureJob, base: LoadedModel, vocabulary: int
) -> Generator[Phase, None, tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], bool]]:
    """Held-out rows and training rows, each cut to what is compared."""
    room = min(_POSITIONS, max(64, _ROOM // (4 * vocabulary)))
    training: list[list[int]] = []
    held: list[list[int]] = []
    if job.data is not None:
        try:
            held, training = yield from _own_rows(job, base)
        except UserError:  # the data moved or changed: the texts of our own serve
            held = []
    own = bool(held)
    if not own:
        held = training = [base.tokenizer.encode_document(text) for text in TEXTS]
    return _cut(held, room), _cut(training, 8 * _POSITIONS), own


def _own_rows(
    job: MeasureJob, base: LoadedModel
) -> Generator[Phase, None, tuple[list[list[int]], list[list[int]]]]:
    data = job.data
    assert data is not None
    dataset = yield from build_dataset(
        find_source(data, Path(job.root)),
        base.tokenizer,
        data,
        context=base.context,
        seed=job.seed,
        today=job.today,
    )
    held = [row.tokens for row in dataset.validation or dataset.training]
    return held, [row.tokens for row in dataset.training]


def _cut(rows: list[list[int]], room: int) -> tuple[tuple[int, ...], ...]:
    """The first rows that fit into `room` positions."""
    kept: list[tuple[int, ...]] = []
    most = _ROWS if room <= _POSITIONS else len(rows)
    for row in rows[:most]:
        part = tuple(row[: min(_ROW, room)])
        room -= len(part)
        if len(part) > 1:
            kept.append(part)
        if room <= 1:
            break
    return tuple(kept)
