"""mlx-lm's side: its own `load`, `train` and `stream_generate`, on the rows our side settled.

Its package is truly imported here, so nothing of ours that stands in for it may be.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.optimizers
import mlx_lm
import msgspec
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import CacheDataset
from mlx_lm.tuner.trainer import TrainingArgs, iterate_batches
from mlx_lm.tuner.trainer import train as mlx_lm_train
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_lora.bench.memory import memory_figures, reset_peak
from mlx_lora.bench.results import Prepared, Work
from mlx_lora.models.quantize import dequantize_model

if TYPE_CHECKING:
    from collections.abc import Callable

_FLOATS = (mx.float32, mx.float16, mx.bfloat16)
_NEVER = 10_000_000


class MlxLm:
    """What mlx-lm's side can be told to do."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._prepared: Prepared | None = None
        self._adapted: dict[bool, tuple[Any, dict[str, mx.array]]] = {}
        self._base: tuple[Any, Any] | None = None
        self._rows: list[dict[str, Any]] = []

    def act(self, do: str, given: dict[str, Any]) -> dict[str, Any]:
        """Do it; returns figures."""
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "prepare": self._prepare,
            "train": self._train,
            "generate": self._generate,
        }
        return actions[do](**given)

    def _prepare(self, work: dict[str, Any], prepared: dict[str, Any]) -> dict[str, Any]:
        self._work, self._prepared = (
            msgspec.convert(work, Work),
            msgspec.convert(prepared, Prepared),
        )
        rows = msgspec.json.decode(Path(self._prepared.tokens_file).read_bytes())
        self._rows = [{"tokens": tokens, "offset": offset} for tokens, offset in rows]
        data = _Tokens(self._rows)
        return {
            "shipped": self._padding(CacheDataset(data)), "repaired": self._padding(_Sorted(data)),
        }  # fmt: skip

    def _padding(self, rows: CacheDataset) -> float:
        """Share of the positions of an epoch that mlx-lm computes for nothing."""
        assert self._work is not None
        work, held = self._work, sum(len(row["tokens"]) - 1 for row in self._rows)
        batches = iterate_batches(rows, work.batch_size, work.max_length)
        positions: int = sum((batch.shape[1] - 1) * batch.shape[0] for batch, _ in batches)
        return 1 - held / positions

    def _train(
        self, *, repaired: bool = False, packed: bool = False, steps: int | None = None
    ) -> dict[str, Any]:
        """`train()` from its call to the end of its last step; rows are tokens already."""
        assert self._work is not None
        self._base = None
        model = self._restored(packed)
        work, data = self._work, _Tokens(self._rows)
        iterations = steps or round(work.epochs * len(self._rows) / work.batch_size)
        settings = TrainingArgs(
            batch_size=work.batch_size,
            iters=iterations,
            val_batches=0,
            steps_per_report=iterations,
            steps_per_eval=_NEVER,
            steps_per_save=_NEVER,
            max_seq_length=work.max_length,
            adapter_file=str(Path(work.scratch, "peer.safetensors")),
        )
        optimizer = mlx.optimizers.AdamW(
            learning_rate=work.learning_rate, weight_decay=0.0, bias_correction=True
        )
        np.random.seed(work.seed)  # what mlx-lm draws the order of its batches from
        end, rows = _End(), (_Sorted(data) if repaired else CacheDataset(data))
        active, began = reset_peak(), time.perf_counter()
        mlx_lm_train(model, optimizer, rows, None, settings, training_callback=end)
        figures = {"seconds": end.at - began, "steps": iterations, "active": active}
        figures |= {"loss": end.loss, "counted": end.tokens, **memory_figures()}
        del optimizer
        gc.collect()
        mx.clear_cache()
        return figures

    def _restored(self, packed: bool) -> Any:
        """The model with the adapter it had at first: every run begins alike."""
        assert self._work is not None
        assert self._prepared is not None
        if packed not in self._adapted:
            model = self._loaded(packed=packed)[0]
            model.freeze()
            shape = {
                "rank": self._work.rank, "scale": self._prepared.scale, "dropout": 0.0,
                "keys": self._prepared.keys,
            }  # fmt: skip
            linear_to_lora_layers(model, self._prepared.adapted_layers, shape)
            mx.eval(model.parameters())
            self._adapted[packed] = (model, dict(tree_flatten(model.trainable_parameters())))
        model, first = self._adapted[packed]
        model.load_weights(list(first.items()), strict=False)
        return model

    def _loaded(self, *, packed: bool = False) -> tuple[Any, Any]:
        """(model, tokenizer), its weights held as our side holds them, or `packed` as in its files.

        On the CPU that is float32, in which its kernels are fastest for mlx-lm too.
        """
        assert self._work is not None
        assert self._prepared is not None
        module, tokenizer = mlx_lm.load(self._work.model)[:2]
        if mx.default_device() == mx.cpu:
            module.apply(lambda part: part.astype(mx.float32) if part.dtype in _FLOATS else part)
            if not packed and "float32" in self._prepared.form:
                dequantize_model(module, mx.float32)
        mx.eval(module.parameters())
        return module, tokenizer

    def _generate(self, new_tokens: int) -> dict[str, Any]:
        assert self._work is not None
        assert self._prepared is not None
        self._adapted.clear()
        model, tokenizer = self._base = self._base or self._loaded()
        tokenizer.eos_token_ids = ()
        began = time.perf_counter()
        stream = mlx_lm.stream_generate(
            model, tokenizer, self._prepared.prompt, max_tokens=new_tokens
        )
        tokens = [piece.token for piece in stream]
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "tokens": tokens, **memory_figures()}


class _Tokens:
    """A dataset as mlx-lm has them: items are dicts, `process` gives (ids, first learnt one)."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def process(self, row: dict[str, Any]) -> tuple[list[int], int]:
        return row["tokens"], row["offset"]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)


class _Sorted(CacheDataset):  # type: ignore[misc]
    """mlx-lm's dataset with its length sort at work.

    As shipped `itemlen` is the number of keys of a row's dict, the same for every row, so that
    sorting by it changes nothing (mlx-lm 596, 1029).
    """

    def itemlen(self, idx: int) -> int:
        return len(self._data[idx]["tokens"])


class _End(TrainingCallback):  # type: ignore[misc]
    """Looks at the clock when the last step is done."""

    at, loss, tokens = 0.0, 0.0, 0

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.at = time.perf_counter()
        self.loss, self.tokens = train_info["train_loss"], int(train_info["trained_tokens"])
