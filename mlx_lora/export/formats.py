"""What an adapter can be exported as, for whom, and what cannot be. No mlx here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.export.limits import FAMILIES
from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model
from mlx_lora.storage import expanded, show

if TYPE_CHECKING:
    from mlx_lora.config import ModelConfig

_GGUF = ("f16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0", "bf16", "f32")
# formats that can be one file, where --out ends in .gguf
_ONE_FILE = {"gguf", "gguf-lora"}
# what an export folder of ours always holds: nothing else is ever overwritten
FACTS = "export.json"


class Format(msgspec.Struct, frozen=True):
    """One kind of export.

    Attributes:
        what: in a person's words.
        tools: the programs that take it.
        quants: precisions it can be written in, the default first; empty where there is no choice.
        families: model types it can hold; empty for all.
    """

    name: str
    what: str
    tools: str
    quants: tuple[str, ...] = ()
    families: frozenset[str] = frozenset()


FORMATS = {
    found.name: found
    for found in (
        Format("mlx", "the adapter, for the same base", "mlx-lm"),
        Format("peft", "the adapter, for the same base", "PEFT, transformers, vLLM"),
        Format(
            "gguf-lora",
            "the adapter, for the same base as GGUF",
            "llama.cpp (--lora)",
            ("f32", "f16"),
            FAMILIES,
        ),
        Format(
            "gguf",
            "the whole model in one file",
            "llama.cpp, Ollama, LM Studio",
            _GGUF,
            FAMILIES,
        ),
        Format(
            "hf",
            "the whole model as a Hugging Face folder",
            "transformers, vLLM",
            ("16", "f16", "bf16", "f32"),
            FAMILIES,
        ),
        Format(
            "mlx-fused",
            "the whole model as an MLX folder",
            "mlx-lm, LM Studio",
            ("auto", "4", "6", "8", "16"),
            FAMILIES,
        ),
        Format(
            "ollama",
            "the whole model with a Modelfile",
            "Ollama",
            tuple(q for q in _GGUF if q not in {"bf16", "f32"}),
            FAMILIES,
        ),
    )
}


def check_format(name: str, quant: str | None, model: ModelConfig) -> tuple[Format, str]:
    """The format and precision asked for, possible for this base.

    Raises:
        UserError: `bad_option` for a name there is not, `cannot_export` for a base the format has
        no place for, with one that has.
    """
    found = FORMATS.get(name)
    if found is None:
        raise UserError(
            "bad_option", f"--format {name}", "there is no such format", f"use {', '.join(FORMATS)}"
        )
    chosen = quant or (found.quants[0] if found.quants else "")
    if quant is not None and quant not in found.quants:
        fix = f"use {', '.join(found.quants)}" if found.quants else "leave --quant away"
        raise UserError("bad_option", f"--quant {quant}", f"{name} has no such precision", fix)
    _, description, _ = check_model(model.source)
    check_family(found, core_description(description)["model_type"])
    return found, chosen


def check_family(found: Format, family: str) -> None:
    """A model of this family can be written so.

    Raises:
        UserError: `cannot_export`, with a format that can.
    """
    if found.families and family not in found.families:
        why = f"it is not written for models of the family {family}"
        fix = f"use --format {' or '.join(f.name for f in FORMATS.values() if not f.families)}"
        raise UserError("cannot_export", f"--format {found.name}", why, fix)


def check_target(out: Path, *, overwrite: bool, keep: tuple[Path, ...]) -> None:
    """A place that may be written: free, or an earlier export of ours with `--overwrite`.

    `keep` are folders nothing may be written onto or into: base and adapter.

    Raises:
        UserError: `exists` or `bad_option`.
    """
    where = out.resolve()
    for folder in map(Path.resolve, keep):
        if where == folder or folder in where.parents or where in folder.parents:
            why, fix = "this is where the model or its adapter is", "choose another folder"
            raise UserError("bad_option", f"--out {show(out)}", why, fix)
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        fix = "choose another name, or add --overwrite"
        raise UserError("exists", show(out), "it is already there", fix)
    if out.is_symlink() or not _is_ours(out):
        why, fix = "it is no earlier export, so it is not overwritten", "choose another name"
        raise UserError("exists", show(out), why, fix)


def _is_ours(out: Path) -> bool:
    """Whether an earlier export is there, told by its facts."""
    return (beside(out, FACTS) if out.is_file() else out / FACTS).is_file()


def beside(out: Path, name: str) -> Path:
    """Where a file goes that belongs to the single file `out`."""
    return out.with_name(f"{out.stem}.{name}")


def target(text: str | None, run_folder: Path | None, name: str, quant: str) -> Path:
    """Where an export goes: as asked, else into the run's own folder.

    Raises:
        UserError: `bad_option`.
    """
    if text:
        out = expanded(text).absolute()
        if out.suffix == ".gguf" and name not in _ONE_FILE:
            why, fix = f"{name} is a folder, not one file", "name a folder, or use --format gguf"
            raise UserError("bad_option", f"--out {show(out)}", why, fix)
        return out
    if run_folder is None:
        fix = "add --out FOLDER"
        raise UserError("bad_option", "--out", "an adapter folder has no place for exports", fix)
    return run_folder / "exports" / "-".join(filter(None, (name, quant)))
