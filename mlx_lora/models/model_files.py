"""Which files of a repository make a model: weights, tokenizer, settings, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlx_lora.models.hub_layout import Wanted

INDEX = "model.safetensors.index.json"
# of the top folder only: others hold copies for other programs
_SETTINGS = re.compile(
    r"config\.json|generation_config\.json|tokenizer[\w.-]*\.(json|model)|special_tokens_map\.json|"
    r"added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json)|"
    r"sentencepiece[\w.-]*\.model|spiece\.model"
)
_SHARD = re.compile(r"(model|weights)[\w.-]*-\d+-of-\d+\.safetensors")
_WEIGHTS = (re.compile(r"model[\w.-]*\.safetensors"), re.compile(r"weights[\w.-]*\.safetensors"))
# what is put behind the name of a packed copy
_FORMS = re.compile(r"([-_.](gguf|i1|imat|ud|i?q\d\w*|f16|bf16|f32))+$")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def choose_model_files(repository: str, files: Sequence[Wanted], twin: str) -> tuple[Wanted, ...]:
    """The files to fetch, small ones first, so that what a model is shows before it is whole.

    `twin` is the same model in a form that can be trained, empty where none is known.

    Raises:
        UserError: `unsupported_model` for GGUF alone or an adapter, `no_weights` for pickles,
        `no_such_model` for no model at all.
    """
    named = {one.name: one for one in files}
    weights = _weights(named)
    settings = [name for name in named if _SETTINGS.fullmatch(name)]
    if not weights or "config.json" not in named:
        raise _no_model(repository, named, twin, has_weights=bool(weights))
    index = [INDEX] if INDEX in named else []
    return tuple(named[name] for name in (*sorted(settings), *index, *sorted(weights)))


def gguf_refusal(where: str, twin: str) -> UserError:
    """A GGUF file is for running a model; what to take to train it."""
    why = "it holds GGUF files alone, which are for running a model, not for training one"
    fix = f"take the same model for training: understudy models download {twin}"
    if not twin:
        fix = "take the model it was made from, in safetensors or MLX format"
    return UserError("unsupported_model", where, why, fix)


def suggested_twin(name: str, bases: Iterable[str] = ()) -> str:
    """The suggested model that is this one in another form: by what it was made from, or its name.

    Empty where none is.
    """
    from mlx_lora.models.catalog import catalog

    plain = _FORMS.sub("", name.rpartition("/")[2].lower())
    for entry in catalog():
        known = set(entry.repositories.bits())
        others = sorted(known - {name})
        called = {one.partition("/")[2].lower() for one in known}
        if others and (known & {name, *bases} or plain in called):
            return entry.source if entry.source != name else others[0]
    return ""


def refuse_gguf(path: Path) -> None:
    """A GGUF file, or a folder of nothing else, is no model to train.

    Raises:
        UserError: `unsupported_model`, with the same model in another form.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if not files or files[0].suffix.lower() != ".gguf" or (path / "config.json").is_file():
        return
    raise gguf_refusal(show(path), suggested_twin(files[0].stem) or suggested_twin(path.name))


def _weights(names: Iterable[str]) -> list[str]:
    """The safetensors files a loader reads: the index's shards, else `model*`, else `weights*`."""
    names = list(names)
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if INDEX in names and shards:
        return shards
    for form in _WEIGHTS:
        if found := [name for name in names if form.fullmatch(name)]:
            return found
    return []


def _no_model(repository: str, names: Iterable[str], twin: str, *, has_weights: bool) -> UserError:
    names = list(names)
    if "adapter_config.json" in names and not has_weights:
        why = "it is an adapter, not a model"
        fix = f"take the model it belongs to: understudy models download {twin}" if twin else (
            "take the model it belongs to"
        )  # fmt: skip
        return UserError("unsupported_model", repository, why, fix)
    if not has_weights and any(name.lower().endswith(".gguf") for name in names):
        return gguf_refusal(repository, twin)
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles and not has_weights:
        why = f"its weights ({pickles[0]}) are a pickle, which can run code and is never read"
        return UserError("no_weights", repository, why, "choose a model in safetensors format")
    missing = "config.json" if has_weights else "safetensors weights"
    fix = "look for another with: understudy models search WORDS"
    return UserError("no_such_model", repository, f"it holds no {missing}", fix)
