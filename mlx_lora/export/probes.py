"""Texts that tell tokenizers apart: scripts, code, spaces, digits, special tokens, mixed."""

from __future__ import annotations

import random
import re
import unicodedata
from typing import TYPE_CHECKING

from mlx_lora.export.gguf_tokenizer import SPACE, has_runs

if TYPE_CHECKING:
    from mlx_lora.models.tokenizer import Tokenizer

COUNT = 500
_PIECES = (
    "Once upon a time", " there was", "the King's", "don't", "I'M", "you'Ve", "we'll", "a", "x",
    " ", "  ", "   ", "\n", "\n\n", "\n \n", "\r\n", "\t", "\t\t", " \n  ", "\u00a0", "\u3000",
    "3", "12", "2026", "1234567", "3.14", "1,000.50", "0x1F", "½", "²", "٣٤", "Ⅷ", "१२३", "\u200b",
    "!", "?!", "...", "--", "—", "“quoted”", "'", '"', "(x)", "[y]", "{z}", "</b>", "&amp;", "#!",
    "def f(x):\n    return x**2\n", "if (a<b) {\n\tb = a;\n}", "SELECT * FROM t;", "/**/",
    "https://example.org/a?b=c", "naïve café", "Straße", "Ångström", "smørrebrød", "Ελληνικά",
    "Привет, мир", "Українська", "עברית", "العربية", "हिन्दी", "বাংলা", "ไทย", "ភាសាខ្មែរ", "中文字符",
    "日本語のテキスト", "한국어", "ქართული", "Tiếng Việt", "🚀", "\U0001f469\u200d\U0001f467",
    "\U0001f3f3\ufe0f\u200d\U0001f308", "e\u0301", "\ufeff", "\U0001d54f", "ﬁ", "ＡＢＣ", "▁", "Ġ",
    "<0x0A>", "[INST]", "ROMEO:\n", "camelCaseWord", "snake_case_word", "UPPERCASE", "a" * 40,
)  # fmt: skip
_LONGEST = 6
_WIDE_SPACE = re.compile("[\u00a0\u3000]")


def probe_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """500 texts, the same for the same tokenizer.

    llama.cpp composes no characters; where a tokenizer does (NFC), only composed texts can agree.
    Behind special tokens that strip what follows it knows ASCII spaces alone; where runs of spaces
    are tokens it knows the spaces, not SentencePiece's sign for one.
    """
    draw = random.Random(0)
    special = tokenizer.special_texts[:12] + tokenizer.special_texts[-12:]
    definition, texts = tokenizer.definition(), list(_PIECES)
    strips = any(token["rstrip"] for token in definition["added_tokens"])
    while len(texts) < COUNT:
        pieces = draw.choices(_PIECES, k=draw.randint(2, _LONGEST))
        if special and draw.random() < 0.3:  # noqa: PLR2004
            pieces.insert(draw.randint(0, len(pieces)), draw.choice(special))
            pieces = [_WIDE_SPACE.sub(" ", piece) for piece in pieces] if strips else pieces
        texts.append("".join(pieces))
    if has_runs(definition):
        texts = [text.replace(SPACE, " ") for text in texts]
    if tokenizer.composes:
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    return tuple(texts[:COUNT])
