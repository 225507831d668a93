"""The measuring of every kind of work, from outside: the sides are processes. No mlx here.

Each round measures every side once, forwards and backwards in turns. Before the first round every
side does its work once unmeasured: in full on Metal, which compiles a kernel for each shape it
meets, else for a few steps.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.bench.pairs import interleave
from mlx_lora.bench.process import Name, Process, side_environment
from mlx_lora.bench.results import (
    OURS,
    PACKED,
    REPAIRED,
    SHIPPED,
    Comparison,
    Prepared,
    Side,
    Work,
)
from mlx_lora.errors import UserError
from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Action = Callable[[], dict[str, Any]]

_WARM_STEPS, _WARM_TOKENS = 2, 8
# packed weights are so slow on the CPU that once is all there is time for
_PACKED_ROUNDS = 1


class Bench:
    """Both sides, alive for as long as the block lasts; `against` starts mlx-lm's too."""

    def __init__(self, work: Work, *, against: bool, rounds: int) -> None:
        self.work, self._against, self._rounds = work, against, rounds
        self._log = Path(work.scratch, "bench.log")
        self._ours = Process("ours", self._log)
        self._theirs: Process | None = None
        self._padding: dict[str, float] = {}
        self.prepared: Prepared | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._ours, self._theirs):
            if process is not None:
                process.close()

    def prepare(self) -> Prepared:
        """Settle what both sides do.

        Raises:
            UserError: whatever is wrong with model, data or sizes.
        """
        given = msgspec.to_builtins(self.work)
        found = self._ours.ask("prepare", work=given)
        self.prepared = msgspec.convert(found, Prepared)
        if self._against:
            self._theirs = Process("mlx-lm", self._log)
            padding = self._theirs.ask("prepare", work=given, prepared=found)
            self._padding = {SHIPPED: padding["shipped"], REPAIRED: padding["repaired"]}
        return self.prepared

    def measure(self, kind: str) -> Iterator[Comparison]:
        """Everything of one kind (`results.KINDS`).

        Raises:
            UserError: what either side failed with.
        """
        match kind:
            case "train":
                yield self.train()
                packed = self.train_packed()
                if packed is not None:
                    yield packed
            case "generate":
                yield self.generate()
            case "load":
                yield from self.load()
            case _:
                yield self.export()

    def train(self) -> Comparison:
        """Real target tokens a second, one whole run a measurement."""
        prepared = self.prepared or self.prepare()
        sides: dict[str, Action] = {OURS: partial(self._ours.ask, "train")}
        if self._theirs is not None:
            sides[SHIPPED] = partial(self._theirs.ask, "train")
            sides[REPAIRED] = partial(self._theirs.ask, "train", repaired=True)
        self._warm(sides, steps=None if prepared.metal else _WARM_STEPS)
        found = interleave(sides, self._rounds)
        targets = prepared.targets * self.work.epochs
        _check_targets(found[OURS], targets)
        made = [_side(name, runs, targets) for name, runs in found.items()]
        for side in made[1:]:
            side.facts["padding"] = self._padding[side.name]
        what = training_words(self.work, prepared, compared=self._theirs is not None)
        return Comparison(kind="train", what=what, unit="tokens/s", sides=made)

    def train_packed(self) -> Comparison | None:
        """mlx-lm as it runs a packed base on the CPU, where nobody would have it so; else None."""
        prepared = self.prepared or self.prepare()
        if self._theirs is None or not prepared.packed or prepared.metal:
            return None
        other = partial(self._theirs.ask, "train", packed=True)
        found = interleave({OURS: partial(self._ours.ask, "train"), PACKED: other}, _PACKED_ROUNDS)
        words = training_words(self.work, prepared, compared=False)
        return Comparison(
            kind="train, base left packed",
            what=f"{words}; mlx-lm multiplies the packed weights, as it does on Linux by itself",
            unit="tokens/s",
            sides=[
                _side(name, runs, prepared.targets * self.work.epochs)
                for name, runs in found.items()
            ],
        )

    def generate(self) -> Comparison:
        """Tokens a second of one greedy answer, the reading of its prompt included."""
        prepared = self.prepared or self.prepare()
        room = (prepared.context or 1 << 30) - len(prepared.prompt)
        count = max(1, min(self.work.new_tokens, room))
        sides: dict[str, Action] = {OURS: partial(self._ours.ask, "generate", new_tokens=count)}
        if self._theirs is not None:
            sides["mlx-lm"] = partial(self._theirs.ask, "generate", new_tokens=count)
        self._warm(sides, new_tokens=count if prepared.metal else min(count, _WARM_TOKENS))
        found = interleave(sides, self._rounds)
        made = [_side(name, runs, count) for name, runs in found.items()]
        texts = {tuple(run["tokens"]) for runs in found.values() for run in runs}
        same = "" if len(made) == 1 else ", the same ones" if len(texts) == 1 else ", NOT the same"
        what = f"{len(prepared.prompt)} tokens read, {count} written{same}; greedy, base alone"
        what += f" ({prepared.form}), no token ends it; the reading counts"
        return Comparison(kind="generate", what=what, unit="tokens/s", sides=made)

    def load(self) -> list[Comparison]:
        """Seconds to a model in memory: from the start of a process, and of the call alone."""
        names: dict[str, Name] = {OURS: "ours"}
        if self._against:
            names["mlx-lm"] = "mlx-lm"
        load = {
            name: partial(load_once, side, self.work, self._log) for name, side in names.items()
        }
        for once in load.values():
            once()
        found = interleave(load, self._rounds)
        words = {
            "total": ("load", "from the start of a process to model and tokenizer in memory"),
            "import and call": ("load, process running", "the import and the call that loads"),
            "seconds": ("load, imported", "the call alone"),
        }
        return [
            Comparison(
                kind=kind, what=what, unit="s",
                sides=[_seconds(name, runs, key) for name, runs in found.items()],
            )
            for key, (kind, what) in words.items()
        ]  # fmt: skip

    def export(self) -> Comparison:
        """Seconds of the command that merges an adapter into a model folder."""
        prepared = self.prepared or self.prepare()
        form, quant = export_form(self.work.model, packed=prepared.packed)
        sides: dict[str, Action] = {OURS: partial(self._export, form, quant, "--no-verify")}
        if self._theirs is not None:
            sides["mlx-lm"] = self._fuse
        sides["understudy, checked"] = partial(self._export, form, quant)
        for once in sides.values():
            once()
        found = interleave(sides, self._rounds)
        what = f"command to finished folder of the merged model, {form} {quant}"
        if self._theirs is not None:
            what += " beside mlx_lm fuse"
        what += "; checked: the folder read back and compared"
        made = [_seconds(name, runs, "seconds") for name, runs in found.items()]
        return Comparison(kind="export", what=what, unit="s", sides=made)

    def _export(self, form: str, quant: str, *options: str) -> dict[str, Any]:
        out = Path(self.work.scratch, "export")
        command = [sys.executable, "-P", "-m", "app", "export", "--model", self.work.model]
        command += ["--adapter", str(Path(self.work.scratch, "adapter")), "--format", form]
        command += ["--quant", quant, "--out", str(out), *options]
        return _command(command, out, Path(self.work.scratch))

    def _fuse(self) -> dict[str, Any]:
        out = Path(self.work.scratch, "fused")
        command = [sys.executable, "-P", "-m", "mlx_lm", "fuse", "--model", self.work.model]
        command += ["--adapter-path", str(Path(self.work.scratch, "adapter"))]
        return _command([*command, "--save-path", str(out)], out, Path(self.work.scratch))

    def _warm(self, sides: dict[str, Action], **given: Any) -> None:
        for side in sides.values():
            side(**given)


def load_once(side: Name, work: Work, log: Path) -> dict[str, Any]:
    """Load a model in a fresh process."""
    began = time.perf_counter()
    with Process(side, log) as process:
        figures = process.ask("load", model=work.model)
        total = time.perf_counter() - began
    both = figures["imports"] + figures["seconds"]
    return {"total": total, "import and call": both, **figures}


def training_words(work: Work, prepared: Prepared, *, compared: bool) -> str:
    """What a training measurement is of."""
    epochs = "one epoch" if work.epochs == 1 else f"{work.epochs:g} epochs"
    data = Path(work.data).name
    if prepared.cut:
        lengths = "instruction lengths" if work.shape == "alpaca" else "full rows"
        data += f" (text cut to {lengths})"
    words = (
        f"{prepared.rows} rows of {data} of {prepared.mean:.0f} tokens on average "
        f"(longest {prepared.longest}), {prepared.targets:,} learnt an epoch, {epochs}, "
        f"batch {work.batch_size}; LoRA rank {work.rank} on {prepared.adapted_layers} layers, "
        f"{prepared.trainable:,} numbers, AdamW at {work.learning_rate:g}; base {prepared.form}"
    )
    if "float32" in prepared.form and not prepared.metal:
        words += " (on the CPU every base is held so)"
    if compared:
        words += (
            "; the same rows, learnt tokens, adapter, optimizer and base on both sides, "
            "tokens counted in the rows"
        )
    return words


def export_form(model: str, *, packed: bool) -> tuple[str, str]:
    """(format, quant) of ours that writes as many bits as `mlx_lm fuse` does for this model."""
    _, description, tensors = check_model(model)
    if packed:
        settings = description.get("quantization") or {}
        return "mlx-fused", str(settings.get("bits", 4))
    kinds = {info.dtype for info in tensors.values()}
    names = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
    family = core_description(description)["model_type"]
    quant = next((names[kind] for kind in names if kind in kinds), "16")
    return ("mlx-fused", "16") if family not in _HF_FAMILIES else ("hf", quant)


# families our `hf` export writes; others go as MLX folders
_HF_FAMILIES = {"llama", "mistral", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi3"}


def _command(command: list[str], out: Path, scratch: Path) -> dict[str, Any]:
    """Run it and throw away what it wrote.

    Raises:
        UserError: `engine`, with its last words.
    """
    environment = side_environment() | {"UNDERSTUDY_HOME": str(scratch / "home")}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in _files(out))
    shutil.rmtree(out, ignore_errors=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no words").split("\n")[-1]
        why = f"{command[4]} ended with exit {done.returncode}: {last}"
        raise UserError("engine", "bench export", why, "leave export out")
    return {"seconds": seconds, "bytes": size}


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _check_targets(runs: list[dict[str, Any]], wanted: float) -> None:
    """Our side learnt every token it is credited with: a comparison must not flatter."""
    for run in runs:
        if run["tokens"] != wanted:
            why = f"it learnt {run['tokens']:,} tokens of {wanted:,.0f}"
            raise UserError("internal", "bench train", why, "tell us which model and data")


def _side(name: str, runs: list[dict[str, Any]], tokens: float) -> Side:
    """Speeds of runs, and what else was the same in all of them or is worth its largest value."""
    last = runs[-1]
    same = ("steps", "loss", "counted", "engine")
    facts: dict[str, Any] = {key: last[key] for key in same if key in last}
    if "padding" in last.get("engine", {}):
        facts["padding"] = last["engine"]["padding"]
    for key in ("peak", "active", "resident", "ahead"):
        if key in last:
            facts[key] = max(run[key] for run in runs)
    return Side(name=name, values=[tokens / run["seconds"] for run in runs], facts=facts)


def _seconds(name: str, runs: list[dict[str, Any]], key: str) -> Side:
    seen = [key for key in ("bytes", "resident") if key in runs[0]]
    facts: dict[str, Any] = {key: max(run[key] for run in runs) for key in seen}
    return Side(name=name, values=[run[key] for run in runs], facts=facts)
