"""A cleaned copy of a dataset: rows that cannot be read, copies, control signs and the like go.

Documents stay text, all other rows become JSON lines with the fields they had. The copy appears
complete or not at all; the source is never altered.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.checks import (
    CONTROL,
    EMAIL,
    GARBLED,
    KEY,
    PHONE,
    answer_of,
    is_odd_order,
    mostly_json,
    reads_as_json,
    texts_of,
)
from mlx_lora.data.encodings import encoding_words
from mlx_lora.data.examples import encodings_of, read_examples
from mlx_lora.data.findings import KINDS
from mlx_lora.data.formats import Document
from mlx_lora.data.near import Likeness
from mlx_lora.data.source import Source, find_source
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Pulse, Report
from mlx_lora.storage import new_file, new_folder, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from mlx_lora.control import Control
    from mlx_lora.data.examples import Found
    from mlx_lora.data.formats import Example
    from mlx_lora.jobs import CleanJob

_SIGNS: dict[str, tuple[Any, str]] = {
    "control_characters": (CONTROL, ""),
    "email": (EMAIL, "[e-mail]"),
    "phone": (PHONE, "[phone]"),
    "key": (KEY, "[key]"),
}


def clean(job: CleanJob, control: Control) -> Iterator[Event]:
    """Write copies of all files, and say what was changed in how many rows (`clean` report).

    Raises:
        UserError: `bad_option` for a code that nothing can be done about, `exists`, `bad_data`
        where nothing would be left, or what the storage refuses.
    """
    for code in job.fixes:
        _check_fix(code)
    source, out = find_source(job.data, Path(job.root)), Path(job.out)
    if out.exists() and not job.overwrite:
        why, fix = "there is something of this name already", "choose another name"
        raise UserError("exists", show(out), why, fix)
    if any(out.exists() and out.samefile(own) for own in source.paths):
        fix = "choose another name for the copy"
        raise UserError("exists", show(out), "this is the source itself", fix)
    cleaner = _Cleaner(source, set(job.fixes))
    try:
        with _places(source, out, overwrite=job.overwrite) as places:
            for rows in cleaner.write_all(places):
                if control.stopping:
                    raise _StoppedError  # noqa: TRY301  (so that no half copy is put in place)
                yield Phase("cleaning", rows)
    except _StoppedError:
        yield Finished(reason="stopped")
        return
    data = {
        "path": show(out),
        "rows": cleaner.rows,
        "removed": dict(sorted(cleaner.changed.items())),
        "encodings": {
            path.name: {
                "encoding": guess.encoding,
                "sure": guess.sure,
                "text": encoding_words(guess),
            }
            for path, guess in cleaner.encodings.items()
        },
    }
    yield Report(kind="clean", data=data)
    yield Finished(reason="done", result={"rows": cleaner.rows})


class _StoppedError(Exception):
    """The owner does not want the copy any more."""


def _check_fix(code: str) -> None:
    if code not in KINDS or not KINDS[code].cleans:
        known = ", ".join(code for code, kind in KINDS.items() if kind.cleans)
        why = "a copy cannot be cleaned of this"
        raise UserError("bad_option", f"--fix {code}", why, f"choose among {known}")


@contextmanager
def _places(source: Source, out: Path, *, overwrite: bool) -> Iterator[dict[str, BinaryIO]]:
    """A file for each split: `out` itself, or files in a folder where there are several."""
    if len(source.files) == 1:
        with new_file(out) as file:
            yield dict.fromkeys(source.files, file)
        return
    with new_folder(out, overwrite=overwrite) as folder, ExitStack() as stack:
        yield {
            split: stack.enter_context((folder / f"{split}{_ending(source, split)}").open("wb"))
            for split in source.files
        }


def _ending(source: Source, split: str) -> str:
    texts = all(path.suffix.lower() in {".txt", ".md"} for path in source.files[split])
    return ".txt" if texts else ".jsonl"


class _Cleaner:
    """Decides row by row, in one pass.

    Attributes:
        rows: rows written.
        changed: by code, in how many rows something was done.
        encodings: of the files that were read in another one than UTF-8.
    """

    def __init__(self, source: Source, fixes: set[str]) -> None:
        self._source, self._fixes = source, fixes
        self.encodings = encodings_of(source)
        if "bad_json" in fixes and not self._is_json():
            self._fixes = fixes - {"bad_json"}
        self.rows = 0
        self.changed: Counter[str] = Counter()
        self._seen: set[bytes] = set()
        self._likeness = Likeness()
        self._leaking = self._held_out() if {"leak", "near_leak"} & fixes else None

    def write_all(self, places: dict[str, BinaryIO]) -> Iterator[int]:
        """Write every split, saying now and then how many rows there are.

        Raises:
            UserError: `bad_data` where no training row is left.
        """
        pulse = Pulse()
        for split, file in places.items():
            before = self.rows
            for found in read_examples(self._source, [split], self.encodings):
                if pulse.due():
                    yield self.rows
                self.rows += self.write(found, file)
            if split == "train" and self.rows == before:
                why, fix = "nothing would be left of it", "choose fewer things to clean"
                raise UserError("bad_data", self._source.name, why, fix)

    def write(self, found: Found, file: BinaryIO) -> bool:
        """Write a row as it is to be; False where it is left out."""
        code = self._reason(found)
        if code:
            self.changed[code] += 1
            return False
        value = found.row.value
        if found.row.document:
            file.write(self._mended(value).encode(errors="replace") + b"\n")
            return True
        if isinstance(value, dict):
            value = self._mended(value)
        file.write(msgspec.json.encode(value) + b"\n")
        return True

    def _reason(self, found: Found) -> str:
        """Why a row is left out; empty where it stays.

        Raises:
            UserError: its fault, where rows with faults are to stay.
        """
        if found.fault is not None:
            if found.trouble not in self._fixes:
                raise found.fault
            return found.trouble
        if found.example is None:
            return "empty" if "empty" in self._fixes else ""
        if isinstance(found.example, Document):
            return ""
        return next((code for code in self._checks(found, found.example)), "")

    def _checks(self, found: Found, example: Example) -> Iterator[str]:
        fixes, texts = self._fixes, texts_of(example)
        if "role_order" in fixes and is_odd_order(example):
            yield "role_order"
        answer = answer_of(example)
        if "bad_json" in fixes and answer is not None and not reads_as_json(answer):
            yield "bad_json"
        if found.split != "train":
            return
        if self._leaking is not None:
            exact, near = self._leaking
            if "leak" in fixes and _digest(texts) in exact:
                yield "leak"
            if "near_leak" in fixes and near.is_like_another(texts, keep=False):
                yield "near_leak"
        if "duplicate" in fixes:
            digest = _digest(texts)
            if digest in self._seen:
                yield "duplicate"
            self._seen.add(digest)
        if "near_duplicate" in fixes and self._likeness.is_like_another(texts, keep=True):
            yield "near_duplicate"

    def _is_json(self) -> bool:
        """Whether answers are meant to be JSON; where they are not, none is left out for it."""
        parse = count = 0
        for found in read_examples(self._source, None, self.encodings):
            answer = None if found.example is None else answer_of(found.example)
            parse += answer is not None and reads_as_json(answer) is True
            count += answer is not None
        return mostly_json(parse, count)

    def _held_out(self) -> tuple[set[bytes], Likeness]:
        """What the validation rows hold."""
        exact, near = set[bytes](), Likeness()
        if "valid" in self._source.files:
            for found in read_examples(self._source, ["valid"], self.encodings):
                if found.example is not None:
                    texts = texts_of(found.example)
                    exact.add(_digest(texts))
                    near.is_like_another(texts, keep=True)
        return exact, near

    def _mended(self, value: Any) -> Any:
        """A row's value with signs taken out or put in place, as far as asked."""
        done = set[str]()
        mended = _walk(value, lambda text: self._mend(text, done))
        self.changed.update(done)
        return mended

    def _mend(self, text: str, done: set[str]) -> str:
        for code, (pattern, place) in _SIGNS.items():
            if code in self._fixes:
                text, count = pattern.subn(place, text)
                done.update([code] if count else [])
        if "garbled" in self._fixes and GARBLED.search(text):
            mended = _ungarble(text)
            done.update(["garbled"] if mended != text else [])
            text = mended
        return text


def _walk(value: Any, mend: Any) -> Any:
    """The same value with every text in it mended."""
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, dict):
        return {key: _walk(item, mend) for key, item in value.items()}
    return [_walk(item, mend) for item in value] if isinstance(value, list) else value


def _ungarble(text: str) -> str:
    """UTF-8 that was read as Windows-1252 or Latin-1, read again; as it is where that fails."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode()
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
    return text


def _digest(texts: tuple[str, ...]) -> bytes:
    joined = "\0".join(texts).encode(errors="surrogatepass")
    return hashlib.blake2b(joined, digest_size=8).digest()
