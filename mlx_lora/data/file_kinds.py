"""What a file is: by its ending what it should be, by its first bytes what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mlx_lora.errors import UserError
from mlx_lora.storage import show

Kind = Literal["text", "lines", "json", "table", "parquet", ""]

TEXT, LINES, ARRAY = {".txt", ".md"}, {".jsonl", ".ndjson"}, {".json"}
TABLE, PARQUET, PACKED = {".csv", ".tsv"}, {".parquet"}, {".gz"}
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(TEXT, "text"),
    **dict.fromkeys(LINES, "lines"),
    **dict.fromkeys(ARRAY, "json"),
    **dict.fromkeys(TABLE, "table"),
    **dict.fromkeys(PARQUET, "parquet"),
}
_KNOWN = ".csv, .json, .jsonl, .md, .ndjson, .parquet, .tsv or .txt, packed with gzip or not"
_UNPACK = "unpack it first"
_AS_CSV = "save it as CSV there and use that"
_AS_TEXT = "save its text as a .txt file and use that"
_AS_PARQUET = "write it as parquet or JSON lines and use that"
_NO_DATA = "choose a file with text in it"

# the first bytes of what people take for data: what it is, and what to do about it
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", "give its name the ending .parquet"),
    (b"%PDF", "a PDF", _AS_TEXT),
    (b"{\\rtf", "a rich text document (RTF)", _AS_TEXT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.xls, .doc)", _AS_CSV),
    (b"\x28\xb5\x2f\xfd", "an archive (Zstandard)", _UNPACK),
    (b"\xfd7zXZ\x00", "an archive (xz)", _UNPACK),
    (b"BZh", "an archive (bzip2)", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7-Zip)", _UNPACK),
    (b"Rar!\x1a\x07", "an archive (RAR)", _UNPACK),
    (b"\x04\x22\x4d\x18", "an archive (LZ4)", _UNPACK),
    (b"\x89PNG\r\n", "a picture (PNG)", _NO_DATA),
    (b"\xff\xd8\xff", "a picture (JPEG)", _NO_DATA),
    (b"GIF8", "a picture (GIF)", _NO_DATA),
    (b"SQLite format 3\x00", "an SQLite database", "write the table as CSV and use that"),
    (b"ARROW1", "an Arrow file", _AS_PARQUET),
    (b"\xff\xff\xff\xff\x10\x00\x00\x00", "an Arrow stream", _AS_PARQUET),
    (b"Obj\x01", "an Avro file", _AS_PARQUET),
    (b"ORC", "an ORC file", _AS_PARQUET),
    (b"\x93NUMPY", "a NumPy array", _NO_DATA),
    (b"GGUF", "a model (GGUF)", "choose it as the model; a dataset is text"),
    (b"bplist", "a property list", _NO_DATA),
    (b"\x7fELF", "a program", _NO_DATA),
    (b"\xcf\xfa\xed\xfe", "a program", _NO_DATA),
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "fetch the file with: git lfs pull",
    ),
)
_SHORT = {b"BZh", b"ORC", b"GIF8", b"Obj\x01", b"GGUF", b"PAR1", b"bplist"}
_MEDIA = ("a sound or picture file", _NO_DATA)
_WEIGHTS = ("a model's weights (safetensors)", "choose its folder as the model")
_PACKAGES = (
    (b"xl/", "an Excel workbook", _AS_CSV),
    (b"word/", "a Word document", _AS_TEXT),
    (b"ppt/", "a PowerPoint presentation", _AS_TEXT),
    (b"mimetypeapplication/epub", "an e-book (EPUB)", _AS_TEXT),
    (b"mimetypeapplication/vnd.oasis", "an OpenDocument file", "save it as CSV or .txt"),
)


def inner_suffix(path: Path) -> str:
    """The ending of a name, small, `.gz` taken off."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def inner_stem(path: Path) -> str:
    """A name without its ending, `.gz` taken off with it."""
    name = path.name
    return Path(name[:-3] if name.lower().endswith(".gz") else name).stem


def kind_of(path: Path) -> Kind:
    """What a file's name says it is; empty where that is nothing we read."""
    kind = _KINDS.get(inner_suffix(path), "")
    return "" if kind == "parquet" and path.suffix.lower() in PACKED else kind


def check_kind(path: Path, head: bytes) -> Kind:
    """What a file is; `head` are its first bytes, unpacked.

    Raises:
        UserError: `bad_data`, saying what it is instead.
    """
    kind = kind_of(path)
    if kind != "parquet" or not head.startswith(b"PAR1"):
        found = _foreign(head, kind)
        if found is not None:
            raise UserError("bad_data", show(path), f"it is {found[0]}", found[1])
    if kind:
        return kind
    if path.suffix.lower() in PACKED:
        fix = "unpack it, or let its name say what is in it, as in rows.jsonl.gz"
        raise UserError("bad_data", show(path), "what is packed in it is not said", fix)
    named = f" ({path.suffix})" if path.suffix else ""
    why = f"this kind of file{named} is not understood"
    raise UserError("bad_data", show(path), why, f"use {_KNOWN}")


def _foreign(head: bytes, kind: Kind) -> tuple[str, str] | None:
    if head.startswith(b"PK\x03\x04"):
        inside = next((entry[1:] for entry in _PACKAGES if entry[0] in head), None)
        return inside or ("an archive (zip)", _UNPACK)
    for start, what, fix in _SIGNATURES:
        # a text may well begin with GIF8 or BZh: only what no text holds proves the rest
        if head.startswith(start) and (start not in _SHORT or _is_binary(head)):
            return what, fix
    inner = (
        (head[:4] == b"RIFF" and head[8:12] in {b"WAVE", b"WEBP", b"AVI "}, _MEDIA),
        (head[257:262] == b"ustar", ("an archive (tar)", _UNPACK)),
        (head[8:10] == b'{"' and head[2:8] == bytes(6), _WEIGHTS),
    )
    if found := next((what for holds, what in inner if holds), None):
        return found
    start = head.lstrip().removeprefix(b"\xef\xbb\xbf")[:200].lower()
    if kind != "text" and start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page, not the file it shows", "download the file itself"
    return None


def _is_binary(head: bytes) -> bool:
    if b"\x00" in head or len(head) < 8:  # noqa: PLR2004  (shorter than any text of use)
        return True
    try:
        head[:1024].decode()
    except UnicodeDecodeError as error:
        return error.start < len(head[:1024]) - 4
    return False
