"""Vocabularies from `tokenizer.model`: read strictly, used where they agree, equal ids."""

from __future__ import annotations

import itertools
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType as Kind
from made import Pair, gguf_in, make_base, make_pair, run_export
from models_made import make_model
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from mlx_lora import events
from mlx_lora.config import ModelConfig
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.export import gguf_tokenizer
from mlx_lora.export.export import export
from mlx_lora.export.gguf_reader import read_gguf
from mlx_lora.export.sentencepiece import NAME, Piece, merge_ranks, own_pieces, read_pieces
from mlx_lora.export.source import Source
from mlx_lora.jobs import ExportJob

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{number:02X}>" for number in range(256))
FIRST = len(SPECIAL) + len(BYTES)
LAST = -1e9  # what Llama's own file gives its runs of spaces
TEXT = (
    "Once upon a time there was a king who had three daughters. The youngest one was the fairest "
    "of them all, and the king loved her best. def add(a, b): return a + b"
)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def written(piece: Piece) -> bytes:
    """A piece as SentencePiece writes one: what is as by default is left out."""
    content = message(1, piece.text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", piece.score)
    if piece.kind != Kind.NORMAL:
        content += varint(3 << 3) + varint(piece.kind)
    return message(1, content)


def file_of(pieces: list[Piece]) -> bytes:
    """With the settings of trainer and normalizer behind the pieces, as a real file has them."""
    trainer = message(1, b"corpus.txt") + varint(3 << 3) + varint(2) + varint(4 << 3) + varint(9)
    normalizer = message(1, b"identity") + varint(3 << 3) + varint(1) + message(2, bytes(300))
    return b"".join(map(written, pieces)) + message(2, trainer) + message(3, normalizer)


def is_run(text: str) -> bool:
    return len(text) > 1 and len(set(text)) == 1


def pieces_of(
    definition: dict[str, Any], first: int = FIRST, runs: float = LAST, kind: Kind = Kind.NORMAL
) -> list[Piece]:
    """The pieces a tokenizer.json was made of: scores fall with the id, from 0 at `first`."""
    kinds = {"<unk>": Kind.UNKNOWN, **dict.fromkeys(("<s>", "</s>"), Kind.CONTROL)}
    kinds |= dict.fromkeys(BYTES, Kind.BYTE)
    found = []
    for text, number in sorted(definition["model"]["vocab"].items(), key=lambda entry: entry[1]):
        if is_run(text) and text[0] in "▁\n\t":
            found.append(Piece(text, runs, kind))
        else:
            score = float(first - number) if number >= first else 0.0
            found.append(Piece(text, score, kinds.get(text, Kind.NORMAL)))
    return found


def run_merges(length: int) -> list[list[str]]:
    """Every pair that makes a run of spaces so long."""
    return [["▁" * left, "▁" * (length - left)] for left in range(length - 1, 0, -1)]


def small_definition(folder: Path) -> dict[str, Any]:
    """A SentencePiece-style tokenizer.json with the ids such a file has: merges, then letters."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=120, show_progress=False))
    model = json.loads(inner.to_str())["model"]
    merges = model["merges"]
    texts = [*SPECIAL, *BYTES, *("".join(merge) for merge in merges)]
    texts += [text for text in model["vocab"] if len(text) == 1]
    merges += run_merges(2) + run_merges(3) + run_merges(4)
    texts += ["▁" * count for count in (2, 3, 4)]
    vocabulary = {text: number for number, text in enumerate(texts)}
    settings = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    inner = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in merges], **settings))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    inner.add_special_tokens(list(SPECIAL))
    inner.add_tokens([AddedToken("<|own|>", normalized=False)])
    inner.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return json.loads(inner.to_str())


PADDED = 400  # embeddings: more than the tokenizer has entries


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A base with such a tokenizer and no tokenizer.model yet."""
    folder = make_model(tmp_path / "model", "llama", vocab_size=PADDED, eos_token_id=2)
    definition = small_definition(folder)
    assert len(definition["model"]["vocab"]) < PADDED
    return folder


def definition_of(folder: Path) -> dict[str, Any]:
    return Source(str(folder), "keep", None).tokenizer.definition()


def give(folder: Path, pieces: list[Piece]) -> list[Piece]:
    (folder / NAME).write_bytes(file_of(pieces))
    return pieces


def as_read(piece: Piece) -> Piece:
    return piece._replace(score=struct.unpack("<f", struct.pack("<f", piece.score))[0])


def fields_in(file: Path) -> dict[str, Any]:
    return {name: value for name, (_, value) in read_gguf(file).fields.items()}


def test_pieces_are_read(small: Path) -> None:
    pieces = pieces_of(definition_of(small))
    pieces[300] = pieces[300]._replace(kind=Kind.UNUSED, score=-0.1)
    assert list(read_pieces(file_of(pieces))) == [as_read(piece) for piece in pieces]
    assert list(read_pieces(message(1, message(1, b"a")))) == [Piece("a", 0.0, Kind.NORMAL)]


def piece(**parts: bytes) -> bytes:
    whole = {
        "text": message(1, b"a"), "score": b"\x15" + struct.pack("<f", -1.0), "kind": b"\x18\x01",
        "more": b"",
    }  # fmt: skip
    return message(1, b"".join((whole | parts).values()))


DAMAGED = {
    "a kind there is none of": piece(kind=b"\x18\x07"),
    "no text": piece(text=b""),
    "an empty text": piece(text=message(1, b"")),
    "no UTF-8": piece(text=message(1, b"\xff\xfe")),
    "not a number": piece(score=b"\x15" + struct.pack("<f", float("nan"))),
    "endless": piece(score=b"\x15" + struct.pack("<f", float("-inf"))),
    "a double": piece(score=b"\x11" + struct.pack("<d", -1.0)),
    "a score as text": piece(score=message(2, b"-1.0")),
    "a kind as text": piece(kind=message(3, b"1")),
    "a piece as a number": b"\x08\x01",
    "a group": piece(more=b"\x23\x24"),
    "a length past the end": b"\x0a\x7f" + piece(),
    "a length past everything": b"\x0a" + b"\xff" * 9 + b"\x01",
    "a number without an end": b"\x0a" + b"\xff" * 40,
    "half a number": piece(more=b"\x20\xff"),
    "half a float": piece(more=b"\x25\x00"),
    "JSON": b'{"version": "1.0", "added_tokens": []}',
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 499723\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_left_aside(content: bytes, small: Path) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        list(read_pieces(content))
    (small / NAME).write_bytes(content)
    pieces, why = own_pieces(small, definition_of(small))
    assert pieces == []
    assert why.startswith("it is damaged: ")


def test_cut_anywhere_it_is_damaged_or_shorter(small: Path) -> None:
    pieces = pieces_of(definition_of(small))[250:265]
    whole = file_of(pieces)
    for end in range(len(whole)):
        try:
            found = list(read_pieces(whole[:end]))
        except ValueError:
            continue
        assert found == [as_read(piece) for piece in pieces[: len(found)]]


def test_noise_is_never_more_than_damaged(small: Path) -> None:
    draw, whole = random.Random(0), file_of(pieces_of(definition_of(small)))
    for _ in range(2000):
        content = bytearray(whole[: draw.randrange(len(whole))])
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content) or 1) :][:1] = draw.randbytes(1)
            if content:
                content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            list(read_pieces(bytes(content)))
        except ValueError:
            continue


def test_a_file_too_large_is_not_read(small: Path) -> None:
    with (small / NAME).open("wb") as file:
        file.truncate(1 << 40)
    assert own_pieces(small, definition_of(small)) == ([], "it is too large to be one")
    (small / NAME).unlink()
    (small / NAME).mkdir()
    assert own_pieces(small, definition_of(small)) == ([], "")
    with pytest.MonkeyPatch.context() as patch:
        (small / NAME).rmdir()
        give(small, pieces_of(definition_of(small)))
        patch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError(13, "denied")))
        assert own_pieces(small, {"model": {"vocab": {}}, "added_tokens": []})[1].endswith(
            "(denied)"
        )


def test_a_tiktoken_file_is_no_vocabulary_of_pieces(small: Path) -> None:
    (small / NAME).write_bytes(b"IQ== 0\nIg== 1\nIw== 2\n" * 40)
    pieces, why = own_pieces(small, definition_of(small))
    assert pieces == []
    assert why


OTHER = "its pieces are not those of tokenizer.json"
BYTE = "its bytes are not those of tokenizer.json"
ORDER = "its scores are in another order than tokenizer.json's merges"


def _swapped(pieces: list[Piece]) -> list[Piece]:
    one, other = FIRST, FIRST + 1
    changed = list(pieces)
    changed[one] = pieces[one]._replace(score=pieces[other].score)
    changed[other] = pieces[other]._replace(score=pieces[one].score)
    return changed


DISAGREE = {
    "empty": (lambda _: [], OTHER),
    "one less": (lambda pieces: pieces[:-1], OTHER),
    "too many": (lambda pieces: [*pieces, pieces[-1], pieces[-1]], OTHER),
    "another text": (
        lambda pieces: [*pieces[:-1], pieces[-1]._replace(text="zebra")],
        OTHER,
    ),
    "other ids": (lambda pieces: [*pieces[:FIRST], *reversed(pieces[FIRST:])], OTHER),
    "a byte less": (
        lambda pieces: [*pieces[:9], pieces[9]._replace(kind=Kind.NORMAL), *pieces[10:]],
        BYTE,
    ),
    "a byte more": (lambda pieces: [*pieces[:-1], pieces[-1]._replace(kind=Kind.BYTE)], BYTE),
    "two scores swapped": (_swapped, ORDER),
    "rising scores": (lambda pieces: [p._replace(score=-p.score) for p in pieces], ORDER),
}


@pytest.mark.parametrize(("change", "why"), DISAGREE.values(), ids=DISAGREE)
def test_tokenizer_json_wins(change: Any, why: str, small: Path) -> None:
    definition = definition_of(small)
    agreeing = pieces_of(definition)
    give(small, agreeing)
    same_pieces(own_pieces(small, definition)[0], agreeing)
    give(small, change(agreeing))
    assert own_pieces(small, definition) == ([], why)


def same_pieces(found: list[Piece], pieces: list[Piece]) -> None:
    """Equal but for the trifle that sets those with one score apart."""
    assert [(piece.text, piece.kind) for piece in found] == [(p.text, p.kind) for p in pieces]
    scores = [piece.score for piece in pieces]
    assert [piece.score for piece in found] == pytest.approx(scores, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("score", [0.0, -1.0, LAST, -1e-40, 1e30])
def test_one_score_for_all_is_set_apart(score: float, small: Path) -> None:
    """In the order of the merges, in the float32 of the file."""
    definition = definition_of(small)
    pieces = give(small, [p._replace(score=score) for p in pieces_of(definition)])
    found, why = own_pieces(small, definition)
    assert why == ""
    same_pieces(found, pieces)
    vocabulary = definition["model"]["vocab"]
    scores = [found[vocabulary[text]].score for text in merge_ranks(definition)]
    assert all(one > other for one, other in itertools.pairwise(scores))
    assert scores == [as_read(Piece("a", score, Kind.NORMAL)).score for score in scores]


def exported(pair: Pair, out: Path) -> tuple[dict[str, Any], list[str]]:
    """A verified export: its fields, and what a person was told before."""
    job = ExportJob(
        model=ModelConfig(source=str(pair.model), bits=pair.bits), adapter=str(pair.adapter),
        format="gguf", quant="f32", out=str(out), root=str(out.parent / "home"),
    )  # fmt: skip
    said = list(export(job, Control()))
    verdict = next(e.data for e in said if isinstance(e, events.Report) and e.kind == "export")
    assert (verdict["by"], verdict["texts"]) == ("llama.cpp", 500)
    assert verdict["difference"]["top1"] == 1.0
    notices = [event.text for event in said if isinstance(event, events.Notice)]
    return fields_in(gguf_in(out)), notices


def test_scores_and_kinds_of_the_file_give_the_same_ids(small: Path, tmp_path: Path) -> None:
    """Every id equal in llama.cpp, by the file's own scores and by the merges alone."""
    definition = definition_of(small)
    pieces = pieces_of(definition)
    pieces[-1] = pieces[-1]._replace(kind=Kind.UNUSED)
    give(small, pieces)
    pair = make_pair(tmp_path / "adapter", small)
    fields, notices = exported(pair, tmp_path / "with")
    assert notices == []
    scores, kinds = fields["tokenizer.ggml.scores"], fields["tokenizer.ggml.token_type"]
    as_meant = [piece.score for piece in pieces]
    assert scores[: len(pieces)] == pytest.approx(as_meant, rel=1e-4, abs=1e-3)
    assert len(set(scores[len(pieces) :])) == 1
    assert kinds[:3] == [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL]
    assert set(kinds[3:FIRST]) == {Kind.BYTE}
    # the last too: tokenizer.json makes it, so llama.cpp must write it
    assert set(kinds[FIRST : len(pieces)]) == {Kind.NORMAL}
    own = fields["tokenizer.ggml.tokens"].index("<|own|>")
    assert own == len(pieces)
    assert kinds[own] == Kind.USER_DEFINED
    assert set(kinds[own + 1 :]) == {Kind.UNUSED}

    (small / NAME).write_bytes(DAMAGED["git lfs"])
    fields, notices = exported(pair, tmp_path / "without")
    assert len(notices) == 1
    assert notices[0].startswith("tokenizer.model is left aside, tokenizer.json has all it takes")
    ranks = fields["tokenizer.ggml.scores"]
    order = sorted(range(FIRST, len(pieces)), key=lambda number: -ranks[number])
    merged = [number for number in order if ranks[number] > min(ranks)]
    assert merged == sorted(merged, key=lambda number: -scores[number])


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) for one in ("llama2", "gemma3")]
)
def test_real_vocabularies(name: str, tmp_path: Path) -> None:
    """Llama's runs of spaces come last, Gemma's first, where they share the score of a pair."""
    family = {"llama2": "llama", "gemma3": "gemma3_text"}[name]
    model = make_base(tmp_path / "model", family, name)
    definition = definition_of(model)
    first = definition["model"]["vocab"]["▁t"]
    own = (0.0, Kind.USER_DEFINED) if name == "gemma3" else (LAST, Kind.NORMAL)
    pieces = give(model, pieces_of(definition, first, *own))
    fields, notices = exported(make_pair(tmp_path / "adapter", model), tmp_path / "out")
    assert notices == []
    scores = [piece.score for piece in pieces]
    assert fields["tokenizer.ggml.scores"] == pytest.approx(scores, rel=1e-4, abs=1e-3)
    kinds = fields["tokenizer.ggml.token_type"]
    assert [n for n, kind in enumerate(kinds) if kind == Kind.BYTE] == [
        n for n, piece in enumerate(pieces) if piece.text in BYTES
    ]
    # tokenizer.json reads runs by its merges, so they are tokens like any other
    assert {kinds[n] for n, piece in enumerate(pieces) if is_run(piece.text)} == {Kind.NORMAL}


@pytest.fixture
def with_runs(small: Path, tmp_path: Path) -> Pair:
    """Runs of spaces as tokens of their own, as Gemma's tokenizer.json lists them."""
    path = small / "tokenizer.json"
    content = json.loads(path.read_text())
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    runs = {text: n for text, n in content["model"]["vocab"].items() if set(text) == {"▁"}}
    content["added_tokens"] += [
        {"id": number, "content": text, **plain} for text, number in runs.items() if len(text) > 1
    ]
    # Gemma's own file has them before everything else, the longest first
    merges = run_merges(4) + run_merges(3) + run_merges(2)
    model = content["model"]
    model["merges"] = merges + [pair for pair in model["merges"] if pair not in merges]
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content["decoder"]["decoders"].pop()
    path.write_text(json.dumps(content))
    return make_pair(tmp_path / "adapter", small)


def test_runs_of_spaces_are_written_as_spaces(with_runs: Pair, tmp_path: Path) -> None:
    fields, _ = exported(with_runs, tmp_path / "out")
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    own = [tokens[number] for number, kind in enumerate(kinds) if kind == Kind.USER_DEFINED]
    assert sorted(own, key=len) == ["  ", "   ", "    ", "<|own|>"]


def test_a_file_that_writes_other_texts_is_broken(
    with_runs: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_tokenizer, "_spelled", lambda content, _kind: content)
    with pytest.raises(UserError, match=r"broken_export.*llama\.cpp writes '.*▁▁.*' where"):
        run_export(with_runs, "gguf", "f32", tmp_path / "out")
    assert not (tmp_path / "out").exists()
