"""An export read back and run, before anybody else sees it.

GGUF files go through llama.cpp itself, in a process of its own; folders are read again by our own
loader.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora import events
from mlx_lora.child import Child
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Phase
from mlx_lora.export import gguf_file, verdict
from mlx_lora.export.gguf_file import broken
from mlx_lora.export.gguf_model import GEMMA, plan_model, rope_context
from mlx_lora.export.merged import WEIGHTS
from mlx_lora.export.peft import read_peft
from mlx_lora.export.probes import probe_texts
from mlx_lora.export.reference import write_logits
from mlx_lora.export.source import Source, plain_name
from mlx_lora.export.tensor_file import read_back
from mlx_lora.export.verdict import Difference, Verdict
from mlx_lora.jobs import ExportJob, LlamaJob
from mlx_lora.lora.store import load_adapter
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.export.gguf_file import Plan
    from mlx_lora.export.reference import Reference
    from mlx_lora.lora.attach import Adapter

_CLASSES = {"f32": "f32", "f16": "f16", "bf16": "bf16", "q8_0": "q8", "16": "bf16", "8": "q8"}
# ends of the engine that say nothing about the file
_NO_ENGINE = {"no_llama_cpp", "killed", "out_of_memory"}
_STORAGE = {"disk_full", "no_permission", "storage"}
_LARGEST_F32_BASE = 2_000_000_000


def verify_gguf(
    plan: Plan, path: Path, source: Source, quant: str, *, reference: Reference, scratch: Path
) -> Generator[Event, None, Verdict]:
    """A merged model: every field and tensor, its tokenizer, its answers.

    Raises:
        UserError: `broken_export`.
    """
    worst = yield from phases("reading_back", gguf_file.read_back(path, plan))
    texts = probe_texts(source.tokenizer)
    job = LlamaJob(
        model=str(path),
        texts=texts,
        rows=reference.rows,
        logits=str(scratch / "written.f32"),
        context=rope_context(source),
    )
    said = yield from _engine(job)
    if isinstance(said, str):
        return Verdict(by="re-read", why=said, tensor_error=worst)
    _check_ids(said, texts, source)
    precision = _class(quant, source.family, reference)
    difference, wrong = _compared(reference, job, precision)
    if wrong and precision == "coarse":
        wrong = yield from _twin(job, source, reference, scratch)
    if wrong:
        raise broken(wrong)
    return Verdict(
        by="llama.cpp",
        difference=difference,
        texts=len(texts),
        own_rows=reference.own,
        tensor_error=worst,
    )


def _twin(
    job: LlamaJob, source: Source, reference: Reference, scratch: Path
) -> Generator[Event, None, str]:
    """Why a coarse file is broken, or "" where it is only coarse.

    Four bits may confuse a model as much as a broken file would. The tensors are known to be as
    near as their kind allows; so the same model in F16 tells whether they are in their places.
    """
    path = scratch / "twin.gguf"
    yield from phases("writing_base", gguf_file.write(path, plan_model(source, "f16")))
    finer = msgspec.structs.replace(job, model=str(path), texts=())
    said = yield from _engine(finer)
    if isinstance(said, str):
        return ""
    return _compared(reference, finer, _class("f16", source.family, reference))[1]


def verify_gguf_adapter(
    plan: Plan, path: Path, job: ExportJob, source: Source, *, reference: Reference, scratch: Path
) -> Generator[Event, None, Verdict]:
    """An adapter on its own base, which is written as GGUF for as long as this takes.

    Raises:
        UserError: `broken_export`.
    """
    alone = Source(job.model.source, job.model.bits, None)
    quant = "f32" if alone.count() * 4 < _LARGEST_F32_BASE else "f16"
    base = scratch / "base.gguf"
    try:
        base_plan = plan_model(alone, quant)
    except UserError as error:  # its tokenizer, which an adapter does not need
        worst = yield from phases("reading_back", gguf_file.read_back(path, plan))
        return Verdict(by="re-read", why=error.why, tensor_error=worst)
    if shutil.disk_usage(scratch).free < base_plan.nbytes * 1.1:
        worst = yield from phases("reading_back", gguf_file.read_back(path, plan))
        why = "the disk has no room for its base as GGUF"
        return Verdict(by="re-read", why=why, tensor_error=worst)
    yield from phases("writing_base", gguf_file.write(base, base_plan))
    coarser = job.quant if quant == "f32" else quant
    return (yield from verify_pair(
        plan, path, base, source, coarser, reference=reference, scratch=scratch
    ))  # fmt: skip


def verify_pair(
    plan: Plan,
    path: Path,
    base: Path,
    source: Source,
    quant: str,
    *,
    reference: Reference,
    scratch: Path,
) -> Generator[Event, None, Verdict]:
    """An adapter file on a base file, both GGUF; `quant` is the coarser of the two.

    Raises:
        UserError: `broken_export`.
    """
    worst = yield from phases("reading_back", gguf_file.read_back(path, plan))
    engine = LlamaJob(
        model=str(base),
        adapter=str(path),
        rows=reference.rows,
        logits=str(scratch / "written.f32"),
        context=rope_context(source),
    )
    said = yield from _engine(engine)
    if isinstance(said, str):
        return Verdict(by="re-read", why=said, tensor_error=worst)
    difference, wrong = _compared(reference, engine, _class(quant, source.family, reference))
    if wrong:
        raise broken(wrong)
    return Verdict(
        by="llama.cpp", difference=difference, own_rows=reference.own, tensor_error=worst
    )


def verify_folder(
    folder: Path,
    written: dict[str, tuple[str, str]],
    precision: str,
    reference: Reference,
    scratch: Path,
) -> Generator[Event, None, Verdict]:
    """A folder of a whole model: every tensor's bytes, then its answers through our own loader.

    Raises:
        UserError: `broken_export`.
    """
    odd = yield from phases("reading_back", read_back(folder / WEIGHTS, written))
    if odd:
        raise broken(f"{odd} is not as it was written")
    yield Phase("loading_model")
    again = load_model(str(folder))
    write_logits(again.module, reference.rows, scratch / "written.f32")
    difference, wrong = verdict.compare(reference, scratch / "written.f32", precision)
    if wrong:
        raise broken(wrong)
    return Verdict(by="re-read", difference=difference, own_rows=reference.own)


def verify_mlx(
    folder: Path, job: ExportJob, reference: Reference, scratch: Path
) -> Generator[Event, None, Verdict]:
    """The adapter folder put on its base again.

    Raises:
        UserError: `broken_export`.
    """
    module, _ = yield from _adapted(job, folder)
    return _answers_alike(module, reference, scratch)


def verify_peft(
    folder: Path, job: ExportJob, reference: Reference, scratch: Path
) -> Generator[Event, None, Verdict]:
    """The written A, B, alpha and rank, understood as PEFT does, put on the base.

    Raises:
        UserError: `broken_export`.
    """
    whole, adapter = yield from _adapted(job, Path(job.adapter))
    deltas = read_peft(folder)
    if {plain_name(name) for name in adapter.modules} != deltas.keys():
        raise broken("its modules are not those of the adapter")
    for name, module in adapter.modules.items():
        delta = deltas[plain_name(name)]
        module.lora_a, module.lora_b = mx.array(delta.a), mx.array(delta.b)
        module.scale = delta.scale
        if delta.magnitude is not None:
            module.m = mx.array(delta.magnitude)
    return _answers_alike(whole, reference, scratch)


def _adapted(job: ExportJob, folder: Path) -> Generator[Event, None, tuple[Any, Adapter]]:
    """The base with the adapter of a folder on it."""
    yield Phase("loading_model")
    base = load_model(job.model.source, job.model.bits)
    adapter = load_adapter(folder, base)
    adapter.train(False)
    return base.module, adapter


def _answers_alike(module: Any, reference: Reference, scratch: Path) -> Verdict:
    """A module that should be the adapted model exactly."""
    write_logits(module, reference.rows, scratch / "written.f32")
    difference, wrong = verdict.compare(reference, scratch / "written.f32", "f32")
    if wrong:
        raise broken(wrong)
    return Verdict(by="re-read", difference=difference, own_rows=reference.own)


def folder_class(quant: str, dtype: str) -> str:
    """Which limits a folder is judged by."""
    if quant in {"4", "6"}:
        return "coarse"
    return "q8" if quant == "8" else dtype.lower()


def _engine(job: LlamaJob) -> Generator[Event, None, dict[str, Any] | str]:
    """What llama.cpp says, or why it could not be asked.

    Raises:
        UserError: `broken_export` where it refuses the file or ends over it.
    """
    child = Child(job)
    said: dict[str, Any] = {}
    try:
        for event in child.read():
            if isinstance(event, events.Report):
                said = event.data
            elif isinstance(event, Phase):
                yield event
    finally:
        child.kill()
        outcome = child.outcome()
    if isinstance(outcome, events.Finished):
        return said
    if outcome.code in _NO_ENGINE:
        return outcome.why
    if outcome.code in _STORAGE:
        raise UserError(outcome.code, outcome.where, outcome.why, outcome.fix)
    raise broken(outcome.why)


def _check_ids(said: dict[str, Any], texts: tuple[str, ...], source: Source) -> None:
    for text, ids, written in zip(texts, said["ids"], said["written"], strict=True):
        ours = source.tokenizer.encode(text)
        if ids != ours:
            raise broken(f"llama.cpp reads {text!r} as {ids[:8]}, the model as {ours[:8]}")
        back = source.tokenizer.decode(ours, keep_special=True)
        if written not in {back, f" {back}"}:  # SentencePiece's space before a first word
            raise broken(f"llama.cpp writes {written!r} where the model writes {back!r}")
    if said["document"] != source.tokenizer.encode_document("a"):
        raise broken("llama.cpp begins a text otherwise than the model")
    if source.tokenizer.eos_id not in {None, said["eos"]}:
        raise broken("llama.cpp ends a text otherwise than the model")


def _compared(reference: Reference, job: LlamaJob, precision: str) -> tuple[Difference, str]:
    """What `verdict.compare` says of llama.cpp's logits."""
    written = Path(job.logits)
    expected = 4 * reference.positions * reference.vocabulary
    if written.stat().st_size != expected:
        raise broken("its vocabulary is not the model's")
    return verdict.compare(reference, written, precision)


def _class(quant: str, family: str, reference: Reference) -> str:
    """Which limits a precision is judged by; half-precision weights blur the app's own figures."""
    found = _CLASSES.get(quant, "coarse")
    if found == "f32" and family in GEMMA:
        found = "gelu"  # ggml's CPU GELU is a table in F16
    if found in {"f32", "gelu", "f16"} and "float32" not in reference.form:
        return "bf16"
    return found


def phases(name: str, work: Generator[tuple[int, int], None, Any]) -> Generator[Event, None, Any]:
    """Progress as events; hands on what the work returns."""
    while True:
        try:
            done, total = next(work)
        except StopIteration as end:
            return end.value
        yield Phase(name, done, total)
