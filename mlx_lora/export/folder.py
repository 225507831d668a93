"""What folders of whole models share: the base's settings and tokenizer, nothing private."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.models.description import core_description, read_description
from mlx_lora.storage import hide_home

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from mlx_lora.export.layout import Layout

TEMPLATE = "chat_template.jinja"
_COPIED = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", TEMPLATE,
    "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "USE_POLICY.md",
)  # fmt: skip
_CLEANED = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json",
    "generation_config.json",
)  # fmt: skip
# settings that may hold a path or a person's name, or that belong to how the base was packed
_PRIVATE = {
    "_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "merges_file",
    "special_tokens_map_file", "cache_dir",
}  # fmt: skip
_PACKING = {"quantization", "quantization_config", "stop_token_ids", "rope_parameters"}
_ARCHITECTURES = {"gemma3_text": "Gemma3ForCausalLM"}


def copy_tokenizer(source: Path, to: Path) -> None:
    """Tokenizer, chat template, generation settings and licence as they are in the base."""
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, to / name)
    for name in _CLEANED:
        if (source / name).is_file():
            content = msgspec.json.decode((source / name).read_bytes())
            write_json(to / name, public(content))


def write_template(folder: Path, template: str, name: str = TEMPLATE) -> None:
    """The chat template beside an adapter, or in place of a base's own in a folder of a model.

    Readers of two ages: those before transformers 4.43 know the template in tokenizer_config.json
    alone.
    """
    (folder / name).write_text(template, encoding="utf-8")
    (folder / "chat_template.json").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    if path.is_file():
        content = msgspec.json.decode(path.read_bytes())
        write_json(path, {**content, "chat_template": template})


def write_stops(folder: Path, stop_ids: Collection[int]) -> None:
    """The ids that end an answer into a model's generation settings."""
    path = folder / "generation_config.json"
    content = msgspec.json.decode(path.read_bytes()) if path.is_file() else {}
    write_json(path, {**content, "eos_token_id": sorted(stop_ids)})


def copied_bytes(source: Path) -> int:
    """About how much `copy_tokenizer` copies."""
    files = (source / name for name in (*_COPIED, *_CLEANED))
    return sum(file.stat().st_size for file in files if file.is_file())


def settings(source: Layout, dtype: str) -> dict[str, Any]:
    """config.json of a merged model as the hub has it: rope_theta and rope_scaling by name."""
    description = read_description(source.folder)
    core = core_description(description)
    if core is not description:
        core = {**_outer(description), **core}
        core["architectures"] = [_ARCHITECTURES.get(source.family, "")]
    return {**public(without(core, _PACKING)), "torch_dtype": dtype, "dtype": dtype}


def write_json(path: Path, content: Any) -> None:
    """A JSON file, indented."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def without(content: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Without these settings."""
    return {key: value for key, value in content.items() if key not in names}


def public(content: Any) -> Any:
    """Without private settings, however deep, and without the home folder in any text."""
    match content:
        case dict():
            return {key: public(value) for key, value in without(content, _PRIVATE).items()}
        case list():
            return [public(value) for value in content]
        case str():
            return hide_home(content)
        case _:
            return content


def _outer(description: dict[str, Any]) -> dict[str, Any]:
    """What a multimodal file says outside its text model that a text model needs."""
    kept = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")
    return {key: description[key] for key in kept if key in description}
