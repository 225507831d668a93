"""Texts in Latin letters with accents: which encoding makes them letters of one language.

A byte stands for another letter in each of these encodings, and all of them are letters. What tells
them apart is that a language uses few of them: Czech read as Windows-1252 has the letters of four.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# letters beyond a to z, a language each
_WESTERN = (
    "àâæçèéêëîïôœùûüÿ",  # French
    "äöüß",  # German
    "áéíñóúü",  # Spanish
    "àèéìíîòóùú",  # Italian
    "àáâãçéêíóôõúü",  # Portuguese
    "àäåéöü",  # Swedish, Finnish
    "åæèéêòóôø",  # Danish, Norwegian
    "áèéêëïóöü",  # Dutch
    "áæéíðóöúýþ",  # Icelandic
    "àçèéíïòóúü·",  # Catalan
)
_ALPHABETS = {
    "cp1252": _WESTERN,
    "cp1250": (
        "áéíóúýčďěňřšťůž",  # Czech
        "áäéíóôúýčďĺľňŕšťž",  # Slovak
        "óąćęłńśźż",  # Polish
        "áéíóöúüőű",  # Hungarian
        "ćčđšž",  # Croatian, Slovenian
        "âîăşţ",  # Romanian
    ),
    "cp1254": ("âçîöûüğış\u0307",),  # Turkish
    "mac_roman": _WESTERN,
}
# the likeliest first
LATIN = tuple(_ALPHABETS)
# what any text has beside letters
_SIGNS = frozenset(
    "\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2026\u00ab\u00bb\u2039\u203a\u20ac\u00a3\u00a7\u00b0\u00a1\u00bf\u00a9\u00ae\u2122\u2022\u00a0\u00b2\u00b3\u00bd"
)
# those that never stand inside a word
_INSIDE = re.compile(
    "(?<=[^\\W\\d_])[\u2039\u203a\u20ac\u00a3\u00a7\u00b0\u00a1\u00bf\u00b2\u00b3\u00bd](?=[^\\W\\d_])"
)
# letters that must speak against every other encoding, and the share that must fit this one
_SURE, _FITS = 3, 0.85


class Guess(NamedTuple):
    """An encoding as Python calls it, and whether there were enough letters to tell it by."""

    encoding: str
    sure: bool = True


def guess_latin(sample: bytes) -> Guess:
    """The encoding in which the letters of a text are most of all those of one language."""
    texts = {name: sample.decode(name, "replace") for name in LATIN}
    fits = {name: _fit(text, _ALPHABETS[name]) for name, text in texts.items()}
    best = max(LATIN, key=lambda name: fits[name])
    # what reads alike in the commonest is called that
    best = next(name for name in LATIN if texts[name] == texts[best])
    others = [fits[name] for name, text in texts.items() if text != texts[best]]
    count = sum(sign > "\x7f" for sign in texts[best])
    speaks = count * (fits[best] - max(others, default=0.0))
    return Guess(best, sure=fits[best] >= _FITS and speaks >= _SURE)


def _fit(text: str, alphabets: tuple[str, ...]) -> float:
    """The share of a text's letters and signs beyond ASCII that one language has."""
    text = text.lower()
    signs = [sign for sign in text if sign > "\x7f"]
    counts = {sign: signs.count(sign) for sign in set(signs)}
    known = sum(count for sign, count in counts.items() if sign in _SIGNS)
    known -= len(_INSIDE.findall(text))
    letters = (sum(counts.get(letter, 0) for letter in alphabet) for alphabet in alphabets)
    return (known + max(letters)) / max(1, len(signs))
