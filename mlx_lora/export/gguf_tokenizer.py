"""A tokenizer as the `tokenizer.ggml.*` fields of a GGUF file.

Two kinds exist in the families exported here. Byte-level BPE (`gpt2` in GGUF) needs the name
llama.cpp gives its split pattern; one that is not in the table is refused, because a guessed name
gives wrong ids without a word. SentencePiece style (`llama` in GGUF) needs a score for every entry:
that of tokenizer.model where the base has one. Where it has tokenizer.json alone, its merges are in
the order of the scores, so the rank of the first merge that makes an entry stands for its score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gguf import TokenType

from mlx_lora.errors import UserError
from mlx_lora.export.gguf_file import Field, array, flag, text, whole
from mlx_lora.export.sentencepiece import NAME, is_byte, merge_parts, merge_ranks, own_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.export.sentencepiece import Piece
    from mlx_lora.models.tokenizer import Tokenizer

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORDS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# the split patterns of tokenizer.json files -> llama.cpp's name of them (src/llama-vocab.cpp)
PATTERNS = {
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}",): "llama-bpe",
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}",): "qwen2",
    (rf"{_WORDS[0]}|{_WORDS[1]}|\p{{N}}|{_SLASHED}",): "tekken",
    (
        rf"{_WORDS[0]}{_CONTRACTIONS}?|{_WORDS[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SLASHED}",
    ): "gpt-4o",
    (_GPT2,): "gpt-2",
    ("<digits>", _GPT2): "smollm",
}
SPACE = "▁"


def tokenizer_fields(
    tokenizer: Tokenizer, definition: dict[str, Any], size: int, folder: Path
) -> tuple[list[Field], str]:
    """Every tokenizer field of a model with `size` embeddings, and what a person should know of it.

    `definition` is the tokenizer's own, which takes a second to make of a large vocabulary.

    Raises:
        UserError: `cannot_export` where llama.cpp has no tokenizer that does the same.
    """
    model, remark = definition["model"], ""
    if model["type"] != "BPE":
        raise _refused(f"its tokenizer is of the kind {model['type']}, and GGUF is written for BPE")
    if model.get("byte_fallback"):
        pieces, why = own_pieces(folder, definition)
        remark = f"{NAME} is left aside, tokenizer.json has all it takes: {why}" if why else ""
        fields = _sentencepiece(definition, size, pieces)
    else:
        fields = _byte_level(definition, size)
    return [*fields, *_special(tokenizer)], remark


def split_name(definition: dict[str, Any]) -> str:
    """What llama.cpp calls the split pattern of a byte-level BPE.

    Raises:
        UserError: `cannot_export` for one it has no name for.
    """
    patterns = tuple(_patterns(definition.get("pre_tokenizer")))
    name = PATTERNS.get(patterns)
    if name is None:
        raise _refused("its tokenizer splits text in a way llama.cpp has no name for")
    return name


def _patterns(step: dict[str, Any] | None) -> list[str]:
    """The patterns a pre-tokenizer splits by, in order."""
    match (step or {}).get("type"):
        case "Sequence":
            return [found for part in step["pretokenizers"] for found in _patterns(part)]  # type: ignore[index]
        case "Split":
            return [step["pattern"].get("Regex", "<string>")]  # type: ignore[index]
        case "ByteLevel":
            spaced = step.get("add_prefix_space")  # type: ignore[union-attr]
            return ["<spaced>"] * bool(spaced) + [_GPT2] * bool(step.get("use_regex", True))  # type: ignore[union-attr]
        case "Digits":
            return ["<digits>" if step.get("individual_digits") else "<numbers>"]  # type: ignore[union-attr]
        case kind:
            return [] if kind is None else [f"<{kind}>"]


def _byte_level(definition: dict[str, Any], size: int) -> list[Field]:
    entries = _entries(definition, size, [])
    merges = definition["model"]["merges"]
    if not merges:
        raise _refused("its tokenizer never merges anything, and llama.cpp takes no such one")
    return [
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", split_name(definition)),
        array("tokenizer.ggml.tokens", [content for content, _ in entries]),
        array("tokenizer.ggml.token_type", [int(kind) for _, kind in entries]),
        array("tokenizer.ggml.merges", [" ".join(merge_parts(merge)) for merge in merges]),
    ]


def _sentencepiece(definition: dict[str, Any], size: int, pieces: list[Piece]) -> list[Field]:
    spaced, unknown = _prefix_space(definition), definition["model"].get("unk_token")
    entries = [
        (_spelled(content, kind), _piece_kind(content, kind, unknown))
        for content, kind in _entries(definition, size, pieces)
    ]
    return [
        text("tokenizer.ggml.model", "llama"),
        text("tokenizer.ggml.pre", "default"),
        array("tokenizer.ggml.tokens", [content for content, _ in entries]),
        array("tokenizer.ggml.scores", _scores(definition, entries, pieces)),
        array("tokenizer.ggml.token_type", [int(kind) for _, kind in entries]),
        flag("tokenizer.ggml.add_space_prefix", spaced),
    ]


def _scores(
    definition: dict[str, Any], entries: list[tuple[str, TokenType]], pieces: list[Piece]
) -> list[float]:
    """What SentencePiece merges by; what has no score of its own comes last."""
    if pieces:
        scores = [piece.score for piece in pieces]
        return (scores + [min(scores)] * len(entries))[: len(entries)]
    ranks, lowest = merge_ranks(definition), -float(len(definition["model"]["merges"]) + 1)
    return [-float(ranks[content]) if content in ranks else lowest for content, _ in entries]


def _prefix_space(definition: dict[str, Any]) -> bool:
    """Whether a text gets a space before its first word.

    Raises:
        UserError: `cannot_export` for a normalizer that is not SentencePiece's.
    """
    steps: list[dict[str, Any]] = []
    for step in (definition.get("normalizer") or {}, definition.get("pre_tokenizer") or {}):
        steps += step.get("normalizers") or step.get("pretokenizers") or [step]
    spaced = False
    for step in steps:
        match step.get("type"):
            case "Prepend":
                spaced = True
            case "Metaspace":
                spaced = step.get("prepend_scheme", "always") != "never"
            case None | "Replace" | "Split":
                continue
            case kind:
                raise _refused(f"its tokenizer changes text by {kind}, which llama.cpp does not")
    return spaced


def _entries(
    definition: dict[str, Any], size: int, pieces: list[Piece]
) -> list[tuple[str, TokenType]]:
    """Every id's text and kind; ids the model has and the tokenizer has not are padding."""
    entries = [(f"[PAD{number}]", TokenType.UNUSED) for number in range(size)]
    for content, number in definition["model"]["vocab"].items():
        entries[number] = (content, TokenType.NORMAL)
    for number, piece in enumerate(pieces):
        entries[number] = (piece.text, TokenType.NORMAL)
    for token in definition["added_tokens"]:
        kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        entries[token["id"]] = (token["content"], kind)
    return entries


def _piece_kind(content: str, kind: TokenType, unknown: str | None) -> TokenType:
    if content == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if kind == TokenType.NORMAL and is_byte(content) else kind


def _spelled(content: str, kind: TokenType) -> str:
    """llama.cpp looks for added tokens in the text as it is, and writes them as they are."""
    return content.replace(SPACE, " ") if kind == TokenType.USER_DEFINED else content


def has_runs(definition: dict[str, Any]) -> bool:
    """Whether runs of spaces are tokens of their own, as Gemma's; then "▁" is no space to GGUF."""
    tokens = definition["added_tokens"]
    plain = (token["content"] for token in tokens if not token["special"])
    return bool(definition["model"].get("byte_fallback")) and any(SPACE in text for text in plain)


def _special(tokenizer: Tokenizer) -> list[Field]:
    """Which tokens begin and end a text, whether one is put before it, and the chat template."""
    fields = []
    if tokenizer.bos_id is not None:
        fields.append(whole("tokenizer.ggml.bos_token_id", tokenizer.bos_id))
    if tokenizer.eos_id is not None:
        fields.append(whole("tokenizer.ggml.eos_token_id", tokenizer.eos_id))
    others = sorted(tokenizer.stop_ids - {tokenizer.eos_id})
    if others:
        fields.append(whole("tokenizer.ggml.eot_token_id", others[-1]))
    for name in ("unk", "pad"):
        number = tokenizer.special_id(f"{name}_token")
        if number is not None:
            key = {"unk": "unknown", "pad": "padding"}[name]
            fields.append(whole(f"tokenizer.ggml.{key}_token_id", number))
    fields.append(flag("tokenizer.ggml.add_bos_token", tokenizer.adds_bos))
    fields.append(flag("tokenizer.ggml.add_eos_token", False))
    if tokenizer.chat_template:
        fields.append(text("tokenizer.chat_template", tokenizer.chat_template))
    return fields


def _refused(why: str) -> UserError:
    fix = "use --format mlx, peft, gguf-lora or hf"
    return UserError("cannot_export", "--format gguf", why, fix)
