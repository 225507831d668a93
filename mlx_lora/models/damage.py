"""What is wrong with a model's files, file by file, and what to bring again. No mlx here.

Quick: first bytes, tables of contents, JSON, and whether every file an index names is there.
Thorough: every file of the hub's cache against the hash that is its name there, read once and
remembered (`proofs.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.hub_layout import Wanted
from mlx_lora.models.library import find_snapshot
from mlx_lora.models.proofs import wanted_hash
from mlx_lora.models.tensors import disguise, read_header
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from mlx_lora.models.proofs import Proofs

INDEX = "model.safetensors.index.json"
Kind = Literal["missing", "pointer", "web_page", "cut_short", "broken", "wrong_hash"]
# what reading an index raises that is none
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
# what a model is made of here; others in its folder are nobody's business
_READ = (".safetensors", ".json", ".model", ".txt", ".jinja")
_WORDS: dict[Kind, str] = {
    "missing": "it is not there",
    "pointer": "this is a Git LFS pointer, not the file itself",
    "web_page": "this is a web page, not the file",
    "cut_short": "it is cut short",
    "broken": "it cannot be read",
    "wrong_hash": "its content is not what the hub holds (its checksum differs)",
}


class Damage(msgspec.Struct, frozen=True):
    """A file that is not as it should be: its name in the model's folder, how, and in words."""

    name: str
    kind: Kind
    why: str


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What to bring again of a model.

    Attributes:
        repository, commit: where from; empty for a folder that is not of the hub's cache.
        files: the damaged ones as a download takes them; hash and size are asked of the hub.
        damage: what is wrong with each.
    """

    source: str
    repository: str
    commit: str
    files: tuple[Wanted, ...]
    damage: tuple[Damage, ...]

    @property
    def possible(self) -> bool:
        """Whether a download puts it right."""
        return bool(self.repository and self.files)


def find_damage(folder: Path) -> list[Damage]:
    """What first bytes and tables of contents tell; fast, also for large models."""
    found = {one.name: one for one in _missing(folder)}
    for path in _files(folder):
        if path.name not in found and (one := _look_at(path)) is not None:
            found[path.name] = one
    for one in _not_as_named(folder, set(found)):
        found[one.name] = one
    return [found[name] for name in sorted(found)]


def check_hashes(folder: Path, proofs: Proofs) -> Generator[tuple[int, int], None, list[Damage]]:
    """Read every file whose hash is known; yields (bytes done, of how many).

    What was read before and has not changed since is not read again.
    """
    files = [(path, wanted) for path in _files(folder) if (wanted := wanted_hash(path))]
    total, before = sum(path.stat().st_size for path, _ in files), 0
    found = []
    for path, wanted in files:
        reading = proofs.prove(path, wanted)
        while True:
            try:
                done = next(reading)
            except StopIteration as end:
                right = bool(end.value)
                break
            yield before + done, total
        before += path.stat().st_size
        yield before, total
        if not right:
            found.append(_damage(path.name, "wrong_hash"))
    return found


def repair_plan(source: str, found: list[Damage] | None = None) -> Repair:
    """What to bring again so that MODEL is whole; `found` where it was looked for already.

    Raises:
        UserError: `no_such_model`.
    """
    folder, repository, commit = find_snapshot(source)
    damage = find_damage(folder) if found is None else found
    files = tuple(Wanted(one.name, 0) for one in damage)
    return Repair(
        source=source, repository=repository, commit=commit, files=files, damage=tuple(damage)
    )


def damage_error(source: str, repair: Repair) -> UserError:
    """Damaged files as one error that names them and what to do."""
    first, rest = repair.damage[0], len(repair.damage) - 1
    more = f" (and {rest} more)" if rest else ""
    if repair.possible:
        fix = f"bring it again with: understudy models verify {source} --repair"
    else:
        fix = "put this file in place again from where the model came from"
        if first.kind == "pointer":
            fix = "in this folder run: git lfs pull"
    code = "missing_shard" if first.kind == "missing" else "damaged_model"
    folder, _, _ = find_snapshot(source)
    return UserError(code, show(folder / first.name), first.why + more, fix)


def _files(folder: Path) -> list[Path]:
    """The model's own files that are there, in the order of their names."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix in _READ and p.is_file())
    except OSError:
        return []


def _missing(folder: Path) -> Iterator[Damage]:
    """Links to nothing, config.json, and shards an index names."""
    for path in folder.iterdir():
        if path.suffix in _READ and path.is_symlink() and not path.exists():
            yield _damage(path.name, "missing")
    if not (folder / "config.json").exists():
        yield _damage("config.json", "missing")
    for name in sorted(set(_index(folder).values())):
        if not (folder / name).exists():
            yield Damage(name, "missing", "a part of the model is missing")


def _look_at(path: Path) -> Damage | None:
    """What one file is by its looks, where that is not what its name says."""
    disguised = disguise(path)
    if disguised:
        return _damage(path.name, disguised)
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.stat().st_size == 0 and path.suffix != ".txt":
        return Damage(path.name, "cut_short", "it is empty")
    if path.suffix == ".json":
        return _json(path)
    return None


def _tensors(path: Path) -> Damage | None:
    try:
        read_header(path)
    except UserError as error:
        cut = "cut short" in error.why
        return Damage(path.name, "cut_short" if cut else "broken", error.why)
    return None


def _json(path: Path) -> Damage | None:
    try:
        # its structure without its values, which costs little also for a large vocabulary
        msgspec.json.decode(path.read_text(encoding="utf-8"), type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        cut = "truncated" in str(error)
        return Damage(path.name, "cut_short" if cut else "broken", f"it is no valid JSON ({error})")
    return None


def _not_as_named(folder: Path, known: set[str]) -> Iterator[Damage]:
    """Shards that lack tensors the index says they hold; where a hash is known, it decides."""
    places: dict[str, set[str]] = {}
    for tensor, name in _index(folder).items():
        places.setdefault(name, set()).add(tensor)
    for name, tensors in places.items():
        if name in known or wanted_hash(folder / name):
            continue
        absent = tensors - read_header(folder / name).keys()
        if absent:
            why = f"it lacks {len(absent)} tensors the index names ({min(absent)}, ...)"
            yield Damage(name, "broken", why)


def _index(folder: Path) -> dict[str, str]:
    """Tensor to file, as far as the index can be read and stays in the folder."""
    try:
        entries = msgspec.json.decode((folder / INDEX).read_bytes())["weight_map"].items()
    except _UNREADABLE:
        return {}
    return {
        tensor: name
        for tensor, name in entries
        if isinstance(name, str) and name and "/" not in name and "\\" not in name and name != ".."
    }


def _damage(name: str, kind: Kind) -> Damage:
    return Damage(name, kind, _WORDS[kind])
