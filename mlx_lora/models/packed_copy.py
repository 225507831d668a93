"""A full-precision model as a packed one, in mlx-lm's own folder format, tensor by tensor.

The model is built with tensors that are not read yet and packed in the same way, by MLX's own
`nn.quantize`; what results is evaluated and written one matrix after the other, and let go. So the
memory needed is that of the largest matrix, not of the model, and the tensors are those
`mlx_lm.convert` makes: its predicate of a family decides what is packed finer or not at all. Where
64 numbers a group do not fit a width, 32 do: mlx-lm leaves those matrices as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import msgspec
from mlx.utils import tree_map_with_path

from mlx_lora.errors import UserError
from mlx_lora.export import tensor_file
from mlx_lora.export.folder import copy_tokenizer, public, without, write_json
from mlx_lora.export.tensor_file import Group, Part
from mlx_lora.models.damage import damage_error, find_damage, repair_plan
from mlx_lora.models.library import check_model
from mlx_lora.models.loading import build_model, is_finite
from mlx_lora.models.quantize import packed_forms
from mlx_lora.models.tensor_pieces import TYPES
from mlx_lora.models.tensors import weight_files
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

T = TypeVar("T")
INDEX = "model.safetensors.index.json"
_SHARD = 5 << 30  # mlx-lm's own limit of a file
_COMMON = 64  # group size in config.json; others are named
_FLOATS = (mx.float32, mx.float16, mx.bfloat16)
# what mlx-lm leaves out of config.json of a text model
_LEFT_OUT = {"vision_config"}


class PackedCopy:
    """What a model becomes in 4, 6 or 8 bit; nothing is read until it is written.

    Attributes:
        folder: the model's own folder, never changed.
        description: its config.json, checked.
        left_plain: names of matrices no supported group fits.
        nbytes: of the tensors to be written.
        read: bytes of the tensors that are read.

    Raises:
        UserError: `bad_option` for a model that is packed already; what is wrong with the folder.
    """

    def __init__(self, source: str, bits: int) -> None:
        self.folder, self.description, headers = check_model(source)
        if damage := find_damage(self.folder):
            raise damage_error(source, repair_plan(source, damage))
        self.bits = bits
        _check_plain(self.description, bits)
        self.read = sum(info.end - info.start for info in headers.values())
        module = build_model(self.folder, self.description, weight_files(self.folder))
        _settle_type(module, self.description)
        self._forms: dict[str, dict[str, Any]]
        self.left_plain: list[str]
        self._sources = self._pack(module)
        held = dict(nn.utils.tree_flatten(module.parameters()))
        self._numbers = sum(
            self._sources[name].size if (name := _packed_name(key, self._sources)) else array.size
            for key, array in held.items()
            if not (_packed_name(key, self._sources) and key.endswith((".scales", ".biases")))
        )
        self._groups = self._grouped(held)
        self.nbytes = tensor_file.nbytes(self._groups)

    def write(self, folder: Path, shard: int = _SHARD) -> Generator[tuple[str, int, int]]:
        """Fill a folder nobody sees yet; yields (what is done, bytes done, bytes in all).

        Raises:
            UserError: `bad_model` for numbers that are not finite, `storage` where what was written
                reads back as something else.
        """
        write_json(folder / "config.json", self._settings())
        copy_tokenizer(self.folder, folder)
        shards = _shards(self._groups, shard)
        places: dict[str, str] = {}
        done = 0
        for number, groups in enumerate(shards, 1):
            name = "model.safetensors"
            if len(shards) > 1:
                name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            written = yield from self._write_one(folder / name, groups, done)
            done += tensor_file.nbytes(groups)
            places |= dict.fromkeys(written, name)
        total = {"total_size": self.nbytes, "total_parameters": self._numbers}
        write_json(folder / INDEX, {"metadata": total, "weight_map": dict(sorted(places.items()))})

    def _write_one(
        self, path: Path, groups: list[Group], before: int
    ) -> Generator[tuple[str, int, int], None, dict[str, tuple[str, str]]]:
        """One file, written and read back."""
        sizes = [tensor_file.nbytes([group]) for group in groups]
        work = tensor_file.write(path, groups, "mlx")
        written = yield from _told(
            "packing", work, lambda count, _: before + sum(sizes[:count]), self.nbytes
        )
        back = tensor_file.read_back(path, written)
        wrong = yield from _told(
            "reading_back",
            back,
            lambda count, total: before + sum(sizes) * count // total,
            self.nbytes,
        )
        if wrong:
            why, fix = f"{wrong} is not what was written", "check the disk, then try again"
            raise UserError("storage", show(path), why, fix)
        return written

    def _pack(self, module: Any) -> dict[str, mx.array]:
        """Pack the model, nothing evaluated; returns the matrices it is made of."""
        self._forms, self.left_plain = packed_forms(module, self.bits)
        found = dict(module.named_modules())
        sources = {name: found[name].weight for name in self._forms}
        nn.quantize(module, class_predicate=lambda name, _: self._forms.get(name, False))
        return sources

    def _grouped(self, held: dict[str, mx.array]) -> list[Group]:
        """Evaluated together: a packed matrix with its scales and biases, the rest alone."""
        names: dict[str, list[str]] = {}
        for key in held:
            names.setdefault(_packed_name(key, self._sources) or key, []).append(key)
        groups = []
        for name, keys in names.items():
            parts = [Part(key, self._kind(key, held[key]), held[key].shape) for key in keys]
            form = self._forms.get(name, {})
            made = self._made(name, [held[key] for key in keys])
            groups.append(Group(parts, made, form.get("bits", 0), form.get("group_size", 0)))
        held.clear()
        return groups

    def _made(self, name: str, arrays: list[mx.array]) -> Callable[[], list[mx.array]]:
        def make() -> list[mx.array]:
            source = self._sources.pop(name, None)
            found = list(arrays)
            arrays.clear()  # nobody but the writer holds them now
            for array in found if source is None else [source]:
                if array.dtype in _FLOATS and not is_finite(array):
                    why = f"{name} holds numbers that are not finite"
                    fix = "download the model again"
                    raise UserError("bad_model", show(self.folder), why, fix)
            mx.eval(found)
            return found

        return make

    def _kind(self, name: str, array: mx.array) -> str:
        if array.dtype not in TYPES:
            kind = str(array.dtype).removeprefix("mlx.core.")
            why = f"{name} is held as {kind}, which cannot be written"
            raise UserError("bad_model", show(self.folder), why, "use another model")
        return TYPES[array.dtype]

    def _settings(self) -> dict[str, Any]:
        """config.json as mlx-lm writes it: the model's own, and how it is packed."""
        content = msgspec.json.decode((self.folder / "config.json").read_bytes())
        packing: dict[str, Any] = {"group_size": _COMMON, "bits": self.bits, "mode": "affine"}
        odd = {name: form for name, form in self._forms.items() if form != packing}
        packing = {**packing, **odd}
        content = {**content, "quantization": packing, "quantization_config": packing}
        return dict(sorted(without(public(content), _LEFT_OUT).items()))


def _told(
    what: str, work: Generator[tuple[int, int], None, T], at: Callable[[int, int], int], total: int
) -> Generator[tuple[str, int, int], None, T]:
    """Go through a piece of work, counting in bytes; nothing of it stays in MLX's cache."""
    while True:
        try:
            count, of = next(work)
        except StopIteration as end:
            made: T = end.value
            return made
        mx.clear_cache()
        yield what, at(count, of), total


def _check_plain(description: dict[str, Any], bits: int) -> None:
    packing = description.get("quantization")
    if packing:
        have = packing.get("bits", "") if isinstance(packing, dict) else ""
        why = f"this model is already packed ({have}-bit)" if have else "it is already packed"
        fix = "use the full-precision model it was made from"
        raise UserError("bad_option", f"--bits {bits}", why, fix)


def _settle_type(module: Any, description: dict[str, Any]) -> None:
    """Bring floats to the type config.json names, as `mlx_lm.convert` does, unread as yet."""
    inner = description.get("text_config")
    name = description.get("torch_dtype") or (inner.get("dtype") if inner else None)
    kind = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}.get(str(name))
    if kind is None:
        return
    casts = getattr(module, "cast_predicate", lambda _: True)

    def settle(key: str, array: mx.array) -> mx.array:
        return array.astype(kind) if casts(key) and array.dtype in _FLOATS else array

    module.update(tree_map_with_path(settle, module.parameters()))


def _packed_name(key: str, packed: dict[str, mx.array]) -> str:
    """The packed module a tensor belongs to; "" for a tensor that stays as it is."""
    name, _, leaf = key.rpartition(".")
    return name if name in packed and leaf in {"weight", "scales", "biases"} else ""


def _shards(groups: list[Group], limit: int) -> list[list[Group]]:
    """Groups into files of at most `limit` bytes; a larger group has one of its own."""
    shards: list[list[Group]] = []
    size = 0
    for group in groups:
        weight = tensor_file.nbytes([group])
        if not shards or size + weight > limit:
            shards.append([])
            size = 0
        shards[-1].append(group)
        size += weight
    return shards
