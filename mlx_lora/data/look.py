"""A pass over all rows of a dataset: rendered, seen by the doctor, counted, and let go."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mlx_lora.data.columns import suggest_columns
from mlx_lora.data.dataset import number_blocks
from mlx_lora.data.doctor import Doctor
from mlx_lora.data.figures import Ledger, measure
from mlx_lora.data.formats import Document
from mlx_lora.data.preview import values_of
from mlx_lora.data.split import Groups
from mlx_lora.data.verdict import judge_size
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_lora.data.examples import Found
    from mlx_lora.data.formats import Example
    from mlx_lora.data.long_rows import LongRows
    from mlx_lora.data.render import Rendered, Renderer
    from mlx_lora.data.source import Source
    from mlx_lora.jobs import InspectJob
    from mlx_lora.models.shape import Shape

# rows of the training file that are shown
SHOWN = 200
_COLUMN = 80


class Look:
    """Takes rows in the order of the files; `end` says what they come to.

    Attributes:
        shown: the first rows of the training file, rendered.
    """

    def __init__(
        self,
        source: Source,
        first: Example,
        renderer: Renderer,
        long_rows: LongRows,
        job: InspectJob,
    ) -> None:
        self._source, self._first, self._job = source, first, job
        self.renderer, self._long_rows = renderer, long_rows
        self._doctor = Doctor(renderer.max_length)
        self._ledgers: dict[str, Ledger] = {}
        self._groups = Groups()
        self._forms: Counter[str] = Counter()
        self._columns: dict[str, str] = {}
        self._shown_columns: dict[str, None] = {}
        self._last = self._blocks = self._left = 0
        self._file, self._before, self._here = "", 0, 0
        self.shown: list[Rendered] = []

    @property
    def bytes_read(self) -> int:
        """How far the files are read."""
        return self._before + self._here

    def take(self, batch: list[Found]) -> None:
        """The next rows."""
        for one in batch:
            self._note(one)
        waiting = [one for one in batch if one.example is not None]
        for one, made in self._rendered(waiting):
            assert one.example is not None
            if isinstance(made, UserError):
                self._doctor.see_fault(one, made, refused=True)
                self._left += 1
                continue
            rows = number_blocks(one.example, made, self._blocks)
            self._blocks += len(rows) if one.row.document else 0
            self._count(one, one.example, rows)

    def end(self, shape: Shape) -> dict[str, Any]:
        """Every figure, and what a person should know.

        Raises:
            UserError: `bad_data` where no row can be learnt.
        """
        self._doctor.close()
        train = self._ledgers.get("train", Ledger())
        if not (train.learnt > 0).any():
            raise self._nothing()
        own = "valid" in self._source.files
        held = None if own else self._groups.held(self._job.data.val_fraction, self._job.seed)
        figures = measure(self._ledgers, held, self._job.batch_size)
        learnt, out = figures["training_rows"], figures["validation_rows"]
        issues = self._doctor.findings(train.whole, train.numbers, learnt, out)
        running = isinstance(self._first, Document)
        return {
            "name": self._source.name,
            "formats": dict(sorted(self._forms.items())),
            **figures,
            "rows_read": self._rows_read(),
            "limit": self.renderer.max_length,
            "own_validation": own,
            "issues": issues,
            "prompt_style": self.renderer.style(self._first),
            "last_row": max(self._last, self._blocks),
            "columns": list(self._shown_columns),
            "verdict": judge_size(
                learnt, figures["training_targets"], running_text=running, shape=shape
            ),
            "template": {"name": self.renderer.tokenizer.template_name},
            "mapping": self._mapping(issues),
            "json_answers": self._json_answers(),
            "long_rows": self._long_rows.effects(),
        }

    def _note(self, one: Found) -> None:
        """What is known of a row before it is rendered."""
        if one.row.file != self._file:
            self._file, self._before, self._here = one.row.file, self.bytes_read, 0
        self._here = max(self._here, one.row.end)
        self._forms[one.form] += 1
        if one.split == "train":
            if self._last < SHOWN:
                self._note_columns(one)
            self._last = one.row.number
        if one.fault is not None:
            self._doctor.see_fault(one, one.fault)
            self._left += 1
        elif one.example is None:
            self._doctor.see_empty(one)
            self._left += 1

    def _note_columns(self, one: Found) -> None:
        """The columns of the first rows, each with a value, and those that are shown."""
        note_columns(one, self._columns)
        self._shown_columns.update(dict.fromkeys(values_of(one)))

    def _rendered(self, waiting: list[Found]) -> Iterator[tuple[Found, list[Rendered] | UserError]]:
        """Every row with its rendering, or with why there is none."""
        examples = [one.example for one in waiting if one.example is not None]
        done = 0
        try:
            for one, (_, rows) in zip(waiting, self.renderer.render_each(examples), strict=True):
                done += 1
                yield one, rows
        except UserError:
            # one row of these is refused: each by itself, from where it broke off
            for one in waiting[done:]:
                assert one.example is not None
                try:
                    yield one, self.renderer.render(one.example)
                except UserError as error:
                    yield one, error

    def _count(self, one: Found, example: Example, rows: list[Rendered]) -> None:
        ledger = self._ledgers.setdefault(one.split, Ledger())
        for row in rows:
            ledger.add(row)
        if one.split == "train":
            self._groups.add(example, sum(1 for row in rows if row.targets))
            self.shown += rows[: max(0, SHOWN - len(self.shown))]
        self._doctor.see(one.split, example, rows)
        if not isinstance(example, Document) and (
            len(rows) > 1 or any(r.cut or r.dropped for r in rows)
        ):
            self._long_rows.add(example)

    def _nothing(self) -> UserError:
        """Why no row can be learnt."""
        fix = "raise --max-length, or check the answers"
        why = "no row has anything to learn in it"
        return self._doctor.first_fault or UserError("bad_data", self._source.name, why, fix)

    def _rows_read(self) -> int:
        rows = sum(len(self._ledgers[s].numbers) for s in ("train", "valid") if s in self._ledgers)
        return rows + self._left

    def _mapping(self, issues: list[dict[str, Any]]) -> dict[str, Any]:
        return mapping_of(self._columns, needed=any(issue["code"] == "unknown" for issue in issues))

    def _json_answers(self) -> dict[str, int] | None:
        parse, meant, answers = self._doctor.json_answers
        return {"parse": parse, "of": answers} if 2 * meant >= answers > 0 else None


def note_columns(one: Found, columns: dict[str, str]) -> None:
    """Add the columns of a row, each with the first value there is."""
    if isinstance(one.row.value, dict):
        for name, value in one.row.value.items():
            if not columns.get(str(name)):
                columns[str(name)] = "" if value is None else str(value)[:_COLUMN]


def mapping_of(columns: dict[str, str], *, needed: bool) -> dict[str, Any]:
    """The columns with an example each, and which field each of them may be."""
    names, values = list(columns), list(columns.values())
    return {
        "needed": needed,
        "columns": [{"name": n, "example": v} for n, v in zip(names, values, strict=True)],
        "suggested": suggest_columns(names, values) if names else {},
    }
