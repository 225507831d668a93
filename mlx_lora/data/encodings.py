"""Texts in another encoding than UTF-8: where that shows, and which one it may be."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NamedTuple

from mlx_lora.data.latin import LATIN, Guess, guess_latin
from mlx_lora.data.rows import bad_place
from mlx_lora.data.text_file import Unpacked, read_head, read_lines
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path

_SAMPLE = 1 << 16
# longest marks first: UTF-32's begins as UTF-16's does
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# what people's files are in; among all there are, rare ones win by chance
_LIKELY = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "mac_roman",
    "cp932", "euc_jp", "gb18030", "big5", "cp949",
]  # fmt: skip
_COMMON = ("cp1252", "cp1251", "koi8_r")
# bytes beyond ASCII from which on other letters are told by them
_ENOUGH = 20
# where bytes are no plain letters any more, and where Windows' letters begin
_ASCII, _ACCENTED = 0x80, 0xC0
_NAMES = {
    "cp1252": "Latin-1, as Windows writes it (cp1252)",
    "cp1250": "Central European, as Windows writes it (cp1250)",
    "cp1254": "Turkish (cp1254)",
    "mac_roman": "what old Macs write (mac_roman)",
    "cp932": "Shift-JIS (cp932)",
    "cp949": "Korean (cp949)",
    "gb18030": "Chinese (gb18030)",
    "big5": "Chinese (big5)",
    "cp1251": "Cyrillic (cp1251)",
    "koi8_r": "Cyrillic (koi8_r)",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
}


class _Fault(NamedTuple):
    """The first bytes that are no UTF-8, and what stands around them."""

    line: int
    column: int
    sample: bytes
    at_end: bool

    @property
    def damaged(self) -> bool:
        """Everything around it is UTF-8 with more than plain letters in it."""
        text = self.sample.decode(errors="replace")
        bad = text.count("\ufffd")
        return sum(sign > "\x7f" for sign in text) - bad >= 4 * bad


def guess_encoding(path: Path) -> Guess | None:
    """What a text file is written in; None where that is UTF-8 or unclear.

    Reads no more of it than up to the first bytes that are not UTF-8.
    """
    wide = wide_encoding(read_head(path, _SAMPLE))
    if wide is not None:
        return Guess(wide)
    fault = _find_fault(path)
    return None if fault is None or fault.damaged or fault.at_end else _guess(fault.sample)


def encoding_words(guess: Guess) -> str:
    """An encoding in words, with a doubt where there were few letters to tell it by."""
    name = _NAMES.get(guess.encoding, guess.encoding)
    return name if guess.sure else f"probably {name}, by few letters"


# shares of zero bytes in a place of every four that are filled with them, and that are not
_MANY, _FEW = 0.5, 0.1


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, told by its mark or by its zero bytes; `head` are a file's first bytes."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\x00" not in head:
        return None
    head = head[: len(head) // 4 * 4] or head
    zeros = [head[at::4].count(0) / max(1, len(head[at::4])) for at in range(4)]
    for name, pattern in (
        ("utf-32-le", (0, 1, 1, 1)), ("utf-32-be", (1, 1, 1, 0)),
        ("utf-16-le", (0, 1, 0, 1)), ("utf-16-be", (1, 0, 1, 0)),
    ):  # fmt: skip
        pairs = zip(zeros, pattern, strict=True)
        if all(share > _MANY if zero else share < _FEW for share, zero in pairs):
            return name
    return None


def check_head(path: Path, head: bytes, *, by_line: bool = False) -> None:
    """The first bytes are those of a text.

    Args:
        path: the file.
        head: its first bytes, unpacked.
        by_line: a zero byte behind the first line is a fault of its own line.

    Raises:
        UserError: `bad_data`, naming the encoding.
    """
    wide = wide_encoding(head)
    if wide is not None:
        raise UserError("bad_data", f"{show(path)}:1", f"it is {_NAMES[wide]} text", _offer(path))
    if b"\x00" in (head.lstrip().splitlines()[0] if by_line else head):
        why = "it holds zero bytes, so it is no text"
        raise UserError("bad_data", show(path), why, "choose a text file")


def explain_encoding(path: Path, encoding: str | None = None) -> UserError | None:
    """Why a file is not the text it should be; None where only single rows of it are damaged."""
    if encoding is not None:
        why = f"it is not {_NAMES.get(encoding, encoding)} text all through"
        return UserError("bad_data", show(path), why, "save it as UTF-8 with another program")
    fault = _find_fault(path)
    if fault is None or fault.damaged:
        return None
    where = show(path)
    if fault.at_end:
        why = "the file ends in the middle of a character"
        return bad_place(where, fault.line, fault.column, why, "get the whole file")
    guess = _guess(fault.sample)
    known, fix = "", "save it as UTF-8 with the program it is from"
    if guess is not None:
        known = f"; it {'looks like' if guess.sure else 'is'} {encoding_words(guess)}"
        fix = _offer(path) + ("" if guess.sure else "; check its letters")
    return bad_place(where, fault.line, fault.column, f"it is not UTF-8 text{known}", fix)


def damaged_row(path: Path, line: bytes, number: int) -> UserError:
    """A row with bytes that are no text, in a file that is UTF-8 otherwise."""
    where, why = show(path), "these bytes are no UTF-8 text"
    text = line.decode(errors="replace")
    at = max(0, text.find("\ufffd"))
    around = text[max(0, at - 20) : at + 20].strip()
    return bad_place(where, number, at + 1, f"{why}: {around!r}")


def _offer(path: Path) -> str:
    copy = f"{path.name.split('.')[0]}-utf8{''.join(path.suffixes[-2:])}"
    return f"understudy data clean {show(path)} --out {copy} writes a copy in UTF-8"


def _find_fault(path: Path) -> _Fault | None:
    before = 0
    with Unpacked(path) as file:
        for lines, _ in read_lines(file):
            block = b"\n".join(line or b"" for line in lines)
            try:
                block.decode()
            except UnicodeDecodeError as error:
                start = block.rfind(b"\n", 0, error.start) + 1
                line = before + block.count(b"\n", 0, error.start) + 1
                column = len(block[start : error.start].decode()) + 1
                last = error.reason == "unexpected end of data" and error.end == len(block)
                at_end = last and not file.read(1)
                return _Fault(line, column, _sample(block, error.start), at_end)
            before += len(lines)
    return None


def _sample(block: bytes, start: int) -> bytes:
    """The lines with more than plain letters, from the first fault on, and some before it."""
    lines = block[max(0, start - _SAMPLE) :].split(b"\n")
    return b"\n".join(line[:_SAMPLE] for line in lines if not line.isascii())[: 2 * _SAMPLE]


def _guess(sample: bytes) -> Guess | None:
    """The likeliest encoding of a few lines."""
    from charset_normalizer import from_bytes

    sample = sample[:_SAMPLE]
    found = from_bytes(sample, cp_isolation=_LIKELY, preemptive_behaviour=False)
    best = found.best()
    if best is None:  # too few letters to tell
        return Guess("cp1252", sure=False) if _is_readable(sample) else None
    # what reads as well as the best: of Latin ones most files are in the first
    equal = [m.encoding for m in found if m.chaos <= best.chaos and m.coherence >= best.coherence]
    plain = sum(letter < _ASCII and chr(letter).isalpha() for letter in sample)
    foreign = sum(letter >= _ACCENTED for letter in sample) > plain
    choices = [name for name in equal if (name not in LATIN) == foreign] or equal
    likeliest = min(choices, key=lambda name: (*_COMMON, name).index(name))
    if likeliest in LATIN:
        return guess_latin(sample)
    return Guess(likeliest, sure=sum(letter >= _ASCII for letter in sample) >= _ENOUGH)


def _is_readable(sample: bytes) -> bool:
    try:
        return sample.decode("cp1252").replace("\n", "").replace("\r", "").isprintable()
    except UnicodeDecodeError:
        return False
