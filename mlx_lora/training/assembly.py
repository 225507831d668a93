"""What engines a model and a run allow, and the parts each is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.order import Order, padding
from mlx_lora.data.packing import make_layout
from mlx_lora.events import Event, Notice
from mlx_lora.machine import this_machine
from mlx_lora.models.anatomy import Anatomy, take_apart
from mlx_lora.training import choice, prefix
from mlx_lora.training.base import is_packed
from mlx_lora.training.engine_words import sentences
from mlx_lora.training.objective import Objective
from mlx_lora.training.packed import packing_axes
from mlx_lora.training.policy import PREFIX_SHARE, Possible, candidates

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mlx_lora.config import RunConfig
    from mlx_lora.data.dataset import Dataset
    from mlx_lora.lora.attach import Adapter
    from mlx_lora.models.loading import LoadedModel
    from mlx_lora.training.engine import Engine


class Assembly:
    """Model, rows and adapter of one run, to put an engine together from."""

    def __init__(
        self, config: RunConfig, base: LoadedModel, dataset: Dataset, adapter: Adapter
    ) -> None:
        self._config, self._base, self._dataset, self._adapter = config, base, dataset, adapter
        self._anatomy: Anatomy | None = take_apart(base.module)
        self._axes = packing_axes(base.module, self._anatomy) if self._anatomy else 0
        self._first = len(base.module.layers) - adapter.shape.layers
        self._lengths = [len(document.tokens) - 1 for document in dataset.training]

    def choose(self, memory: Path) -> Generator[Event, None, tuple[Engine, list[choice.Measured]]]:
        """The engine of a new run, and what was measured to find it."""
        possible = self._possible()
        choice.refuse_impossible(self._config, possible, self._first)
        packed = is_packed(self._base)
        found = candidates(
            self._config, choice.backend(), "packed" if packed else "plain", possible
        )
        training = self._config.training
        trial = choice.Trial(
            self.objective, self._adapter.dropout_key, training.batch_size, training.seed
        )
        chosen = yield from choice.choose(
            self._config, found, self._dataset.training, trial, memory
        )
        return chosen

    def fill(self, engine: Engine) -> Generator[Event, None, prefix.PrefixCache | None]:
        """What the frozen layers make of every document, where the engine keeps it and it fits."""
        if not engine.prefix or self._anatomy is None:
            return None
        budget = round(PREFIX_SHARE * this_machine().usable)
        cache = yield from prefix.fill(self._anatomy, self._first, self._dataset.training, budget)
        if cache is None:
            text = (
                "What the frozen layers make of the rows does not fit into memory, "
                "so it is computed in every epoch."
            )
            yield Notice(level="info", code="no_prefix", text=text)
        return cache

    def order(self, engine: Engine) -> Order:
        """The batches of the run."""
        training = self._config.training
        layout = make_layout(engine.batching, self._lengths, training.batch_size)
        return Order(layout, training.seed)

    def objective(self, engine: Engine) -> Objective:
        """Loss of a batch, in the engine's form."""
        return Objective(
            self._base.module,
            self._anatomy,
            chunked=engine.loss == "chunked",
            recompute=engine.recompute,
            first=self._first,
            axes=self._axes,
        )

    def words(
        self,
        engine: Engine,
        measured: list[choice.Measured],
        cache: prefix.PrefixCache | None,
        base_words: str,
    ) -> dict[str, Any]:
        """What was chosen and why, for whoever looks."""
        layout = make_layout(engine.batching, self._lengths, self._config.training.batch_size)
        facts = {
            "padding": round(padding(layout, self._lengths), 4),
            "row_length": getattr(layout, "length", 0),
            "prefix_bytes": cache.size if cache is not None else 0,
            "base_words": base_words,
            "tried": len(measured),
        }
        tried = [
            {
                "batching": one.engine.batching,
                "compiled": one.engine.compiled,
                "seconds_per_token": one.seconds,
            }
            for one in measured
        ]
        built = msgspec.to_builtins(engine)
        return {**built, **facts, "measured": tried, "words": sentences(engine, facts)}

    def _possible(self) -> Possible:
        anatomy, model = self._anatomy, self._base.module
        asked = self._config.engine.prefix_cache
        replays = (
            anatomy is not None
            and asked != "off"
            and (asked == "on" or self._sees_again())
            and prefix.can_replay(model, anatomy, self._first)
        )
        return Possible(
            chunked=anatomy is not None and anatomy.head.frozen,
            packs=self._axes > 0,
            replays=replays,
        )

    def _sees_again(self) -> bool:
        """Whether rows come up more than once."""
        training = self._config.training
        if training.steps is None:
            return training.epochs > 1
        seen = training.steps * training.grad_accumulation * training.batch_size
        return seen > len(self._lengths)
