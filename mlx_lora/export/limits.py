"""What llama.cpp has no place for, told from a model's settings. No mlx here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

# the families GGUF is written for; the keys of ARCHITECTURES in gguf_model.py
FAMILIES = frozenset({"llama", "mistral", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi3"})
LONGROPE = frozenset({"longrope", "su"})
_LLAMAS = {"llama", "mistral"}


def check_gguf(family: str, settings: dict[str, Any]) -> None:
    """A model GGUF can hold.

    Raises:
        UserError: `cannot_export`.
    """
    if family not in FAMILIES:
        raise refused(f"GGUF is not written for the family {family}")
    kinds = settings.get("layer_types") or []
    if family in _LLAMAS and "sliding_attention" in kinds:
        raise refused("llama.cpp has no sliding attention in this family")
    scaling = rope_type(settings)
    known = {"default", "linear"} | ({"llama3"} if family in _LLAMAS else set())
    known |= {"yarn"} if family.startswith("qwen") else set()
    if scaling not in (known | (LONGROPE if family == "phi3" else set())):
        raise refused(f"positions scaled by {scaling} have no place in this family's GGUF")


def check_gguf_adapter(*, dora: bool, shared_output: bool) -> None:
    """An adapter llama.cpp can put on: plain, and not on an output matrix that is the embeddings'.

    Raises:
        UserError: `cannot_export`.
    """
    if dora:
        raise _no_adapter("llama.cpp has no DoRA adapters")
    if shared_output:
        raise _no_adapter("llama.cpp shares this output matrix with the embeddings")


def check_peft(family: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """An adapter PEFT can put on; `shapes` has the dimensions of each module's factors.

    Raises:
        UserError: `cannot_export`.
    """
    why = ""
    if any(len(shape) == 3 for shape in shapes.values()):  # noqa: PLR2004
        why = "PEFT has one low-rank product for all experts of a layer, this adapter one for each"
    elif family == "gpt_oss" and any(name.endswith(".router") for name in shapes):
        why = "transformers keeps this model's router in no linear, so PEFT cannot adapt it"
    if why:
        fix = "use --format mlx, or train with --targets attention"
        raise UserError("cannot_export", "--format peft", why, fix)


def rope_type(settings: dict[str, Any]) -> str:
    """How positions are scaled."""
    scaling = settings.get("rope_scaling") or {}
    return str(scaling.get("rope_type") or scaling.get("type") or "default").lower()


def refused(why: str) -> UserError:
    """GGUF cannot hold it."""
    return UserError("cannot_export", "--format gguf", why, "use --format mlx, peft or hf")


def _no_adapter(why: str) -> UserError:
    return UserError("cannot_export", "--format gguf-lora", why, "use --format gguf, peft or mlx")
