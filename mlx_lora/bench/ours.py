"""Our side: the loop users train with, the engine they generate with, the loader they load with."""

from __future__ import annotations

import gc
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora import __version__, environment
from mlx_lora.bench.memory import memory_figures, reset_peak
from mlx_lora.bench.results import Prepared, Work
from mlx_lora.bench.sample_rows import sample_rows, write_rows
from mlx_lora.config import RunConfig, build_config
from mlx_lora.control import Control
from mlx_lora.data.dataset import Dataset, build_dataset
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.events import Phase, Report, TrainStep
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling
from mlx_lora.lora.attach import Adapter, attach, choose_shape, total_parameters
from mlx_lora.lora.store import AdapterFacts, save_adapter
from mlx_lora.models.loading import LoadedModel, load_model
from mlx_lora.preflight import make_record
from mlx_lora.runs import Run, RunStore
from mlx_lora.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mlx_lora.data.rendered import Rendered
    from mlx_lora.events import Event

# steps after which a validation, a sample, a checkpoint would come: never
_NEVER = 10_000_000
# rendering may leave rows out: so many times the rows are looked at
_SPARE = 2
_PROMPT = 48
# spread of the adapter that is exported
_SIZE = 0.01


class Ours:
    """What our side can be told to do."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._config: RunConfig | None = None
        self._base: LoadedModel | None = None
        self._prompt: list[int] = []

    def act(self, do: str, given: dict[str, Any]) -> dict[str, Any]:
        """Do it; returns figures."""
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "prepare": self._prepare,
            "train": self._train,
            "generate": self._generate,
        }
        return actions[do](**given)

    def _prepare(self, work: dict[str, Any]) -> dict[str, Any]:
        """Settle rows and configuration, make an adapter to export, say what the other side needs.

        Raises:
            UserError: whatever is wrong with model or data.
        """
        self._work = chosen = msgspec.convert(work, Work)
        base = load_model(chosen.model)
        rows, cut = self._rows(chosen, base)
        tokens = Path(chosen.scratch, "tokens.json")
        tokens.write_bytes(msgspec.json.encode([as_mlx_lm_has_it(row) for row in rows]))
        self._prompt = rows[0].tokens[:_PROMPT]
        assert self._config is not None
        parameters = total_parameters(base.module)
        adapter = attach(base.module, choose_shape(base.module, self._config.adapter)[0])
        _save(adapter, base, Path(chosen.scratch, "adapter"))
        lengths = [len(row.tokens) for row in rows]
        prepared = Prepared(
            tokens_file=str(tokens),
            rows=len(rows),
            targets=sum(row.targets for row in rows),
            mean=sum(lengths) / len(lengths),
            longest=max(lengths),
            cut=cut,
            prompt=self._prompt,
            parameters=parameters,
            trainable=adapter.parameter_count(),
            keys=list(adapter.shape.keys),
            adapted_layers=adapter.shape.layers,
            scale=adapter.shape.scale,
            form=base.form,
            context=base.context,
            metal=mx.default_device() != mx.cpu,
            environment=environment.describe(base.form),
        )
        return {**msgspec.to_builtins(prepared), **memory_figures()}

    def _rows(self, work: Work, base: LoadedModel) -> tuple[list[Rendered], bool]:
        """As many rows as make whole batches, each with something to learn; whether text was cut.

        Raises:
            UserError: `bad_data` where there are too few.
        """
        limit = min(work.max_length, base.context or work.max_length)
        path = Path(work.scratch, "rows.jsonl")
        wanted, cut = sample_rows(work, base.tokenizer, limit, work.rows * _SPARE)
        learnt = {row.row for row in self._rendered(write_rows(path, wanted), base)}
        kept = [row for number, row in enumerate(wanted, 1) if number in learnt][: work.rows]
        count = len(kept) // work.batch_size * work.batch_size
        if not count:
            why = f"{len(kept)} rows make no batch of {work.batch_size}"
            raise UserError("bad_data", "--data", why, "choose more rows or a lower --batch-size")
        return self._rendered(write_rows(path, kept[:count]), base), cut

    def _rendered(self, path: Path, base: LoadedModel) -> list[Rendered]:
        """The rows of a file as the run will have them."""
        assert self._work is not None
        self._config = configuration(self._work, path)
        data, seed = self._config.data, self._config.training.seed
        source = find_source(data, Path(self._work.scratch))
        day = time.strftime("%Y-%m-%d")
        making = build_dataset(
            source, base.tokenizer, data, context=base.context, seed=seed, today=day
        )
        return _result(making).training

    def _train(self, steps: int | None = None) -> dict[str, Any]:
        """A run from its first step to its last, or to `steps`; loading and reading not counted."""
        assert self._work is not None
        assert self._config is not None
        self._base = None
        root = Path(self._work.scratch)
        record, name = make_record(self._config, root)
        run = RunStore(root).create(record, name)
        try:
            return self._timed(run, root, steps)
        finally:
            shutil.rmtree(run.folder, ignore_errors=True)
            gc.collect()
            mx.clear_cache()

    def _timed(self, run: Run, root: Path, steps: int | None) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        start = began = time.perf_counter()
        events = train(run, root, Control())
        for event in events:
            match event:
                case Phase(name="training" | "frozen_layers") if "active" not in figures:
                    figures["active"] = reset_peak()
                    began = time.perf_counter()
                case Report(kind="engine", data=data):
                    figures["engine"] = data
                case TrainStep():
                    figures |= {"seconds": time.perf_counter() - began, "steps": event.step}
                    figures |= {"tokens": event.tokens, "loss": event.loss}
                    if event.step in {steps, event.steps}:
                        break
                case _:
                    pass
        figures |= {"ahead": began - start, **memory_figures()}
        events.close()
        return figures

    def _generate(self, new_tokens: int) -> dict[str, Any]:
        assert self._work is not None
        self._base = base = self._base or load_model(self._work.model)
        settings = Sampling(max_tokens=new_tokens)
        began = time.perf_counter()
        pieces = list(generate(base.module, base.tokenizer, self._prompt, (), settings))
        seconds = time.perf_counter() - began
        tokens = [piece.token for piece in pieces]
        return {"seconds": seconds, "tokens": tokens, **memory_figures()}


def configuration(work: Work, rows: Path) -> RunConfig:
    """The run: constant rate, nothing held out, nothing measured or saved on the way."""
    tree: dict[str, Any] = {
        "model": {"source": work.model},
        "data": {
            "source": str(rows), "max_length": work.max_length, "val_fraction": 0.0,
            "train_on": work.train_on,
        },
        "adapter": {"rank": work.rank, "layers": work.layers},
        "training": {
            "epochs": work.epochs, "batch_size": work.batch_size, "seed": work.seed,
            "learning_rate": work.learning_rate, "warmup": 0.0, "final_rate": 1.0,
            "eval_every": _NEVER, "save_every": _NEVER, "sample_every": _NEVER,
        },
    }  # fmt: skip
    return build_config(tree | ({"engine": work.engine} if work.engine else {}))


def as_mlx_lm_has_it(row: Rendered) -> tuple[list[int], int]:
    """(ids up to the last learnt one, index of the first): what mlx-lm's loss can be told.

    Raises:
        UserError: `bad_data` where more than one stretch of the row is learnt.
    """
    learnt = [at for at, bit in enumerate(row.mask) if bit]
    first, last = learnt[0], learnt[-1]
    if len(learnt) != last - first + 1:
        why = "several stretches of it are learnt, which mlx-lm cannot do"
        raise UserError("bad_data", f"row {row.row}", why, "compare on rows with one answer")
    return row.tokens[: last + 1], first


def _save(adapter: Adapter, base: LoadedModel, folder: Path) -> None:
    """An adapter that does something, to be exported."""
    tensors = {
        name: mx.random.normal(tensor.shape, key=mx.random.key(number)) * _SIZE
        for number, (name, tensor) in enumerate(sorted(adapter.tensors().items()))
    }
    facts = AdapterFacts(
        base_name=base.name, base_fingerprint=base.fingerprint, bits="keep", prompt_style="raw",
        template_sha256="", settings={}, step=0, version=__version__,
    )  # fmt: skip
    save_adapter(folder, tensors, adapter.shape, facts)


def _result(work: Generator[Event, None, Dataset]) -> Dataset:
    """Run it to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            dataset: Dataset = end.value
            return dataset
