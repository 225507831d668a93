"""Files to bytes and lines: unpacked, without a byte-order mark, in UTF-8, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import io
import os
from typing import IO, TYPE_CHECKING, Any

from mlx_lora.data.rows import CHUNK, LARGEST, Row
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GZIP = b"\x1f\x8b"
# longer texts are read in parts
_WHOLE = 16 << 20


class Unpacked(io.RawIOBase):
    """The bytes of a file: gzip unpacked, a byte-order mark gone.

    With an `encoding` the file is read in that, and the bytes are UTF-8 all the same.

    Attributes:
        given: bytes given out so far.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=1 << 16)
        packed = self._file.peek(2)[:2] == _GZIP  # type: ignore[attr-defined]
        self._bytes: IO[bytes] | gzip.GzipFile = (
            gzip.GzipFile(fileobj=self._file) if packed else self._file
        )
        decode = codecs.getincrementaldecoder(encoding) if encoding else None
        self._decoder = decode() if decode else None
        self._rest, self._begun = b"", False
        self.given = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill as much of the buffer as one reading gives; 0 at the end."""
        size = len(buffer)
        while not self._rest:
            # at first enough to see a mark
            chunk = self._bytes.read(size if self._begun else max(size, 4))
            self._rest = self._recode(chunk)
            if not self._begun:
                self._begun = True
                self._rest = self._rest.removeprefix(codecs.BOM_UTF8)
            if not chunk:
                break
        taken, self._rest = self._rest[:size], self._rest[size:]
        buffer[: len(taken)] = taken
        self.given += len(taken)
        return len(taken)

    def position(self) -> int:
        """Bytes of the file read so far, as they lie on the disk."""
        return self._file.tell()

    def left(self, used: int) -> tuple[int, int]:
        """(bytes of the file behind so many that were given out, all of them), as on the disk.

        Of a packed or recoded file the first is an estimate.
        """
        size = os.fstat(self._file.fileno()).st_size
        return size - round(used * self.position() / max(1, self.given)), size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _recode(self, chunk: bytes) -> bytes:
        if self._decoder is None:
            return chunk
        return self._decoder.decode(chunk, final=not chunk).encode()


def open_text(path: Path, encoding: str | None = None, newline: str = "") -> io.TextIOWrapper:
    """A file as text, unpacked, without a byte-order mark; line ends stay as they are."""
    return wrap_text(Unpacked(path, encoding), newline=newline)


def wrap_text(raw: Unpacked, newline: str | None = "") -> io.TextIOWrapper:
    """Bytes as text; with a `newline` of None every line end becomes a line feed."""
    return io.TextIOWrapper(io.BufferedReader(raw, CHUNK), encoding="utf-8", newline=newline)


def read_head(path: Path, size: int, encoding: str | None = None) -> bytes:
    """The first bytes of a file, unpacked."""
    with Unpacked(path, encoding) as file:
        parts = bytearray()
        while len(parts) < size and (chunk := file.read(size - len(parts))):
            parts += chunk
        return bytes(parts)


def read_lines(file: Unpacked) -> Iterator[tuple[list[bytes | None], int]]:
    """Lists of lines without their ends, and the bytes read so far; None is a line beyond measure.

    A line ends with a line feed, a carriage return, or both; what else Python takes for a line
    end may stand in a JSON text.
    """
    parts: list[bytes] = []
    size, after_return, skipping = 0, False, False
    while chunk := file.read(CHUNK):
        if after_return:
            chunk = chunk.removeprefix(b"\n")
        after_return = chunk.endswith(b"\r")
        cut = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if cut:
            lines: list[bytes | None] = [*b"".join([*parts, chunk[:cut]]).splitlines()]
            if skipping:
                lines[0] = None
            yield lines, file.position()
            parts, size, skipping = [], 0, False
        parts.append(chunk[cut:])
        size += len(parts[-1])
        if size > LARGEST:
            parts, size, skipping = [], 0, True
    if skipping:
        yield [None], file.position()
    elif size:
        yield [b"".join(parts)], file.position()


def read_documents(path: Path, first: int, encoding: str | None) -> Iterator[Row]:
    """A text file as one document, as it stands; a very long one in parts, cut at blank lines.

    Raises:
        UserError: `bad_data` where it holds zero bytes.
    """
    with Unpacked(path, encoding) as raw:
        text = wrap_text(raw)
        held, size, number, line = list[str](), 0, first, 1
        while piece := text.read(CHUNK):
            if "\0" in piece:
                why = "it holds zero bytes, so it is no text"
                raise UserError("bad_data", show(path), why, "choose a text file")
            held.append(piece)
            size += len(piece)
            if size > _WHOLE:
                part, rest = _parted("".join(held))
                held, size = [rest], len(rest)
                if part.strip():
                    yield Row(number, part, True, path.name, line, raw.position())
                    number += 1
                line += part.count("\n")
        whole = "".join(held)
        if whole.strip():
            yield Row(number, whole, True, path.name, line, raw.position())


def _parted(text: str) -> tuple[str, str]:
    """A text up to its last blank line, or else line end, and the rest of it."""
    for end in ("\n\n", "\r\n\r\n", "\n"):
        cut = text.rfind(end) + len(end)
        if cut > len(text) // 2:
            return text[:cut], text[cut:]
    return text, ""
