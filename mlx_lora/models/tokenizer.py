"""The tokenizer of a model folder, read without transformers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import tokenizers

from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path


class Tokenizer:
    """Text to ids and back.

    Attributes:
        bos, eos: the special tokens' text, or None.
        bos_id: id of `bos`, or None.
        stop_ids: every id that ends a generation: of config.json, generation_config.json and the
            tokenizer.
        chat_template: jinja source, or None for a base model.
        template_name: `model` for its own, the name of one that was put in its place, or `none`.
        size: ids run from 0 to size - 1.
    """

    def __init__(
        self, inner: tokenizers.Tokenizer, names: dict[str, Any], stop_ids: list[int]
    ) -> None:
        self._inner = inner
        self.bos, self.eos = _content(names.get("bos_token")), _content(names.get("eos_token"))
        self.bos_id = inner.token_to_id(self.bos) if self.bos else None
        eos_id = inner.token_to_id(self.eos) if self.eos else None
        self.stop_ids = frozenset(stop_ids) | ({eos_id} if eos_id is not None else set())
        self.eos_id = eos_id if eos_id is not None else min(self.stop_ids, default=None)
        self.chat_template = _template(names.get("chat_template"))
        self.template_name = "model" if self.chat_template else "none"
        self.special_tokens = {
            key: text
            for key, value in names.items()
            if key.endswith("_token") and (text := _content(value))
        }
        self.size = inner.get_vocab_size(with_added_tokens=True)
        # shared with copies that differ in their chat template only
        self._twins = dict[str, tuple[tokenizers.Tokenizer, dict[int, int]]]()

    def with_template(self, name: str, source: str | None) -> Tokenizer:
        """The same tokenizer with another chat template, or with none."""
        twin = copy.copy(self)
        twin.chat_template, twin.template_name = source, name
        return twin

    def encode(self, text: str) -> list[int]:
        """Ids of a text as it stands, nothing added."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_document(self, text: str) -> list[int]:
        """Ids of a text with its start token (if the tokenizer has one), never doubled."""
        return self.undoubled(self._inner.encode(text, add_special_tokens=True).ids)

    def undoubled(self, ids: list[int]) -> list[int]:
        """Ids of a text that was given its start token, without the one it brought itself."""
        return ids[1:] if self.bos_id is not None and ids[:2] == [self.bos_id] * 2 else ids

    def encode_inside(self, text: str) -> list[int]:
        """Ids of a text that follows another: without SentencePiece's space before a first word."""
        anchor = self.encode("\n")
        ids = self.encode(f"\n{text}")
        return ids[len(anchor) :] if ids[: len(anchor)] == anchor else self.encode(text)

    def encode_each(self, texts: list[str], *, start: bool = False) -> list[tokenizers.Encoding]:
        """Texts as they stand or each with its `start` token, all processors at work."""
        found: list[tokenizers.Encoding] = self._inner.encode_batch(texts, add_special_tokens=start)
        return found

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text, nothing added, and the character range each stands for."""
        encoding = self._inner.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: list[int], *, keep_special: bool = False) -> str:
        """Text of ids, special tokens left out unless `keep_special`."""
        text: str = self._inner.decode(ids, skip_special_tokens=not keep_special)
        return text

    def decode_each(self, ids: list[int]) -> list[str]:
        """The text of every id by itself, special tokens kept."""
        texts: list[str] = self._inner.decode_batch([[i] for i in ids], skip_special_tokens=False)
        return texts

    def token_text(self, token: int) -> str:
        """The entry of one id in the vocabulary."""
        text: str | None = self._inner.id_to_token(token)
        return text or ""

    def definition(self) -> dict[str, Any]:
        """The tokenizer.json it was made from, without tokens the model does not have."""
        content: dict[str, Any] = msgspec.json.decode(self._inner.to_str())
        return content

    def special_id(self, role: str) -> int | None:
        """The id of `unk_token`, `pad_token`, ..., where the tokenizer names one that exists."""
        content = self.special_tokens.get(role)
        number: int | None = self._inner.token_to_id(content) if content else None
        return number

    @property
    def composes(self) -> bool:
        """Whether it turns letter and accent into one character (NFC) before it reads a text."""
        return self.encode("e\u0301") == self.encode("\u00e9")

    @property
    def adds_bos(self) -> bool:
        """Whether a text is given its start token."""
        return self.bos_id is not None and self.encode_document("a")[:1] == [self.bos_id]

    def marked_twin(self, mark: str) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        """One to which a control token is plain text, unless `mark` stands before it.

        Returns it and, by its ids of marked tokens, this tokenizer's. Made once.
        """
        if mark in self._twins:
            return self._twins[mark]
        twin = tokenizers.Tokenizer.from_str(self._inner.to_str())
        twin.encode_special_tokens = True
        ids = dict[int, int]()
        for number, token in self._inner.get_added_tokens_decoder().items():
            if token.special:
                marked = tokenizers.AddedToken(
                    mark + token.content, single_word=token.single_word, lstrip=token.lstrip,
                    rstrip=token.rstrip, normalized=token.normalized, special=False,
                )  # fmt: skip
                twin.add_tokens([marked])
                if (twin_id := twin.token_to_id(marked.content)) is not None:
                    ids[twin_id] = number
        self._twins[mark] = (twin, ids)
        return twin, ids

    @property
    def control_texts(self) -> list[str]:
        """The added tokens that steer a model (special ones) as text, longest first."""
        added = self._inner.get_added_tokens_decoder().values()
        texts = (token.content for token in added if token.special and token.content.strip())
        return sorted(texts, key=len, reverse=True)

    @property
    def special_texts(self) -> list[str]:
        """Every added token as text, longest first."""
        added = self._inner.get_added_tokens_decoder().values()
        return sorted((token.content for token in added), key=len, reverse=True)


class TextStream:
    """Ids to text as they come; bytes of an unfinished character are held back.

    `context` is what was there before: some decoders drop the space in front of a first token.
    """

    def __init__(
        self, tokenizer: Tokenizer, context: list[int], *, keep_special: bool = False
    ) -> None:
        self._tokenizer, self._keep = tokenizer, keep_special
        self._ids = list(context)
        self._start, self._shown = 0, len(context)

    def add(self, token: int) -> str:
        """The text that is now certain and was not before."""
        self._ids.append(token)
        before, after = self._texts()
        if after.endswith("\ufffd") or len(after) <= len(before):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return after[len(before) :]

    def finish(self) -> str:
        """What was held back."""
        before, after = self._texts()
        self._start = self._shown = len(self._ids)
        return after[len(before) :]

    def _texts(self) -> tuple[str, str]:
        """What was shown of the last stretch, and the whole of it."""
        shown, whole = self._ids[self._start : self._shown], self._ids[self._start :]
        return (
            self._tokenizer.decode(shown, keep_special=self._keep),
            self._tokenizer.decode(whole, keep_special=self._keep),
        )


def read_tokenizer(folder: Path, stop_ids: list[int], vocabulary: int) -> Tokenizer:
    """The tokenizer of a model with `vocabulary` embeddings.

    Raises:
        UserError: `bad_model` where files are missing or damaged, or where it makes ids the model
        does not have.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        fix = "download the model again, tokenizer.json included"
        raise UserError("bad_model", show(path), "the tokenizer is missing", fix)
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        fix = "download this file again"
        raise UserError("bad_model", show(path), "the tokenizer cannot be read", fix) from error
    inner.no_truncation()
    inner.no_padding()
    names = _names(folder)
    highest = max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocabulary:
        inner = _without_unused(path, inner, names, vocabulary)
        highest = max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocabulary:
        why = f"it makes ids up to {highest:,}, but the model has {vocabulary:,} entries"
        raise UserError(
            "bad_model", show(path), why, "use the tokenizer that belongs to this model"
        )
    return Tokenizer(inner, names, stop_ids)


def _without_unused(
    path: Path, inner: tokenizers.Tokenizer, names: dict[str, Any], vocabulary: int
) -> tokenizers.Tokenizer:
    """Without those added tokens the model has no entry for, where none of them is used.

    Gemma 3 1B's tokenizer has one image token more than the model has entries.
    """
    used = " ".join(map(str, (names.get(k) for k in ("bos_token", "eos_token", "chat_template"))))
    added = inner.get_added_tokens_decoder()
    beyond = {token.content for number, token in added.items() if number >= vocabulary}
    if not beyond or any(text in used for text in beyond):
        return inner
    content = msgspec.json.decode(path.read_bytes())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < vocabulary]
    kept = tokenizers.Tokenizer.from_str(msgspec.json.encode(content).decode())
    kept.no_truncation()
    kept.no_padding()
    return kept


def _names(folder: Path) -> dict[str, Any]:
    """Special tokens and chat template, wherever the hub's layouts keep them."""
    names: dict[str, Any] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json", "chat_template.json"):
        path = folder / file
        if not path.is_file():
            continue
        try:
            content = msgspec.json.decode(path.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(
                "bad_model", show(path), "it is no valid JSON", "download this file again"
            ) from error
        if not isinstance(content, dict):
            raise UserError(
                "bad_model", show(path), "it is no JSON object", "download this file again"
            )
        names.update({key: value for key, value in content.items() if value is not None})
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        names["chat_template"] = jinja.read_text(encoding="utf-8", errors="replace")
    return names


def _content(token: object) -> str | None:
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) and value else None


def _template(value: object) -> str | None:
    """The default template where several are listed by name."""
    if isinstance(value, list):
        named = {
            entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)
        }
        value = named.get("default")
    return value if isinstance(value, str) and value.strip() else None
