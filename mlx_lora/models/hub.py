"""Models of the Hugging Face hub: found, and looked at before a byte is brought. No mlx here.

Everything that asks the hub takes its time: off the window's thread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.catalog import find_variant
from mlx_lora.models.definitions import known_types
from mlx_lora.models.download import missing_bytes
from mlx_lora.models.hub_api import PATIENCE, card_of, list_entries, open_hub, wanted_file
from mlx_lora.models.hub_errors import hub_errors, page
from mlx_lora.models.hub_layout import Place, Wanted
from mlx_lora.models.model_files import choose_model_files, suggested_twin

if TYPE_CHECKING:
    from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
# what the search is to tell of each
_TOLD = ["config", "downloads", "gated", "safetensors", "tags", "library_name"]
# how many are looked through for one that can be trained
_SEARCHED = 10
_TEXT = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
_NO_MODELS = {"peft", "sentence-transformers", "gguf"}
_PACKED = {"U32", "U8", "I8", "I32"}


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One model a search found, of a kind that can be trained here.

    Attributes:
        kind: its model_type.
        parameters: 0 where the hub does not say, or counts packed numbers.
        licence: as the hub names it, empty where it does not.
        gated: its terms are to be accepted before it may be had.
        mlx: in MLX's own form.
    """

    repository: str
    kind: str
    downloads: int
    parameters: int
    licence: str
    gated: bool
    mlx: bool


class RemoteModel(Listing, frozen=True, kw_only=True):
    """A model of the hub before it is brought.

    Attributes:
        commit: the version.
        size: bytes of the files that are fetched.
        missing: those of them that are not on this machine yet.
        files: what is fetched.
        page: its address for a person, where the licence is to be read.
        twin: the same model without accepting terms; empty where none is known or needed.
    """

    commit: str
    size: int
    missing: int
    files: tuple[Wanted, ...]
    page: str
    twin: str = ""


def search(words: str, root: Path, limit: int = 20) -> list[Listing]:
    """Models that can be trained here, most downloaded first; all words are in their names.

    Raises:
        UserError: `network` where the hub is not to be asked or does not answer.
    """
    api = open_hub(root, "search")
    import huggingface_hub

    kind: Any = huggingface_hub.ModelInfo
    with hub_errors("search", "model"):
        entries = list_entries(
            api, "model", search=words, filter="safetensors", sort="downloads",
            limit=limit * _SEARCHED, expand=_TOLD,
        )  # fmt: skip
    found = [kind(**{"siblings": None, **one}) for one in entries]
    return [_listing(one) for one in found if _can_train(one)][:limit]


def look_up(repository: str, root: Path) -> RemoteModel:
    """What a model of the hub is and what it takes to bring it.

    Raises:
        UserError: `no_such_model`, `no_access`, `network`, or as `choose_model_files`, and
        `unsupported_model` for a kind that is not known here.
    """
    if not HUB_ID.fullmatch(repository):
        why, fix = "this is no model id", "write it as owner/name, as the hub shows it"
        raise UserError("no_such_model", repository, why, fix)
    api = open_hub(root, repository)
    with hub_errors(repository, "model"):
        info = api.model_info(repository, files_metadata=True, timeout=PATIENCE)
        address = page(repository, "model")
    twin = _twin(repository, info)
    files = choose_model_files(repository, [wanted_file(one) for one in info.siblings or ()], twin)
    kind = _kind(info)
    if kind and kind not in known_types():
        fix = "choose a model of a family like Llama, Gemma, Qwen, Mistral, Phi or SmolLM"
        why = f"it is of a kind ({kind}) that is not known here"
        raise UserError("unsupported_model", repository, why, fix)
    place = Place(repository, str(info.sha), "model")
    place.check(files)
    facts = msgspec.structs.asdict(_listing(info))
    return RemoteModel(
        **{**facts, "repository": repository}, commit=place.commit,
        size=sum(one.size for one in files), missing=missing_bytes(place, files), files=files,
        page=address, twin=twin if info.gated else "",
    )  # fmt: skip


def _listing(info: Any) -> Listing:
    tags = info.tags or []
    return Listing(
        repository=info.id,
        kind=_kind(info),
        downloads=int(info.downloads or 0),
        parameters=_parameters(info),
        licence=_licence(info.id, info, tags),
        gated=bool(info.gated),
        mlx="mlx" in tags or info.library_name == "mlx",
    )


def _can_train(info: Any) -> bool:
    """Of a kind that is known here, a model that writes, and not packed for another program."""
    config, tags = info.config or {}, info.tags or []
    if _kind(info) not in known_types() or info.library_name in _NO_MODELS:
        return False
    heads = config.get("architectures") or []
    if heads and not any(str(head).endswith(_TEXT) for head in heads):
        return False
    packed = config.get("quantization_config") or {}
    return "mlx" in tags or not (isinstance(packed, dict) and packed.get("quant_method"))


def _kind(info: Any) -> str:
    config = info.config if isinstance(info.config, dict) else {}
    return str(config.get("model_type") or "")


def _parameters(info: Any) -> int:
    """How many numbers it has; the hub counts packed ones by the word."""
    counted = info.safetensors
    kinds = dict(getattr(counted, "parameters", None) or {})
    return 0 if not kinds or _PACKED & set(kinds) else int(counted.total or 0)


def _licence(repository: str, info: Any, tags: list[str]) -> str:
    entry = find_variant(repository)
    if entry is not None:
        return entry.licence
    card = card_of(info)
    said = card.get("license_name") or card.get("license")
    tagged = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), "")
    return str(said or tagged)


def _twin(repository: str, info: Any) -> str:
    """The same model in a form that can be trained and had; empty where none is known."""
    said = card_of(info).get("base_model") or []
    bases = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)]
    known = suggested_twin(repository, bases)
    return known or next((base for base in bases if HUB_ID.fullmatch(base)), "")
