"""What a table of bad inputs is made of, and how files for them are put in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

Make = Callable[["Places"], object]


class Places(msgspec.Struct, frozen=True):
    """What a case may name in its arguments, as in `{work}/a.jsonl`."""

    work: Path
    rows: Path
    model: Path
    run: Path
    root: Path

    def fill(self, text: str) -> str:
        """A text with the names of places replaced."""
        for name in self.__struct_fields__:
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text


class Case(msgspec.Struct, frozen=True):
    """One input and what must be said to it.

    Attributes:
        arguments: of the command line.
        words: the error's code, then what its line must hold. Of an odd but good input: what must
            be printed.
        make: puts its files in place.
        late: found by a worker, where it cannot be found before.
    """

    name: str
    arguments: list[str]
    words: list[str]
    make: Make | None = None
    late: bool = False


def train(*options: str, model: str = "{model}", data: str = "{rows}") -> list[str]:
    """A `train` that ends after one step, with options."""
    return ["train", "--model", model, "--data", data, *options]


def text(content: str | bytes, name: str = "rows.jsonl") -> Make:
    """Write `work/name`."""

    def make(places: Places) -> None:
        path = places.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def lines(*rows: Any, name: str = "rows.jsonl") -> Make:
    """Write rows as JSON lines."""
    return text("".join(json.dumps(row) + "\n" for row in rows), name)


def each(*makes: Make) -> Make:
    """Several files."""

    def make(places: Places) -> None:
        for one in makes:
            one(places)

    return make


def copied(change: Callable[[Path], object], source: str = "model") -> Make:
    """A copy of the model (or of the run's adapter) in `work/copy`, changed."""

    def make(places: Places) -> None:
        original = places.model if source == "model" else places.run / "adapter"
        folder = places.work / "copy"
        folder.mkdir()
        for path in original.iterdir():
            if path.suffix == ".safetensors":
                (folder / path.name).symlink_to(path)
            else:
                (folder / path.name).write_bytes(path.read_bytes())
        change(folder)

    return make


def edited(file: str, **changes: Any) -> Callable[[Path], object]:
    """Change keys of a JSON file in a folder; None takes a key out."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        for key, value in changes.items():
            content.pop(key, None)
            if value is not None:
                content[key] = value
        path.write_text(json.dumps(content))

    return change


def replaced(file: str, content: str | bytes) -> Callable[[Path], object]:
    """Put other content in a file of a folder."""
    encoded = content if isinstance(content, bytes) else content.encode()

    def change(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)  # it may be a link to the original
        (folder / file).write_bytes(encoded)

    return change


def removed(*files: str) -> Callable[[Path], object]:
    """Take files out of a folder."""
    return lambda folder: [(folder / file).unlink() for file in files]
