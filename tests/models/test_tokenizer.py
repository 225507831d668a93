"""The tokenizer of a model folder, in the layouts the hub has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from models_made import make_tokenizer

from mlx_lora.errors import UserError
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tokenizer(tmp_path)
    return tmp_path


def config(folder: Path, name: str = "tokenizer_config.json", **content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def refused(folder: Path, vocabulary: int = 272) -> UserError:
    with pytest.raises(UserError) as caught:
        read_tokenizer(folder, [], vocabulary)
    assert caught.value.code == "bad_model"
    return caught.value


def test_there_and_back(folder: Path) -> None:
    made = read_tokenizer(folder, [7], 272)
    text = "Grüße, 世界 \U0001f600\n"
    ids = made.encode(text)
    assert made.decode(ids) == text
    assert made.encode_document(text) == [1, *ids]
    assert made.encode_document("<s>" + text) == [1, *ids]
    assert made.encode_offsets(text)[0] == ids
    assert made.decode([1, *ids, 2]) == text
    assert made.decode([1, *ids, 2], keep_special=True) == f"<s>{text}</s>"
    assert (made.bos, made.eos, made.bos_id, made.eos_id) == ("<s>", "</s>", 1, 2)
    assert made.stop_ids == {2, 7}
    assert made.size == 259
    assert made.special_texts == ["<unk>", "</s>", "<s>"]
    assert (made.token_text(1), made.token_text(99999)) == ("<s>", "")


def test_special_tokens_as_objects_and_in_their_own_file(folder: Path) -> None:
    config(folder, eos_token={"content": "</s>", "lstrip": False}, bos_token=None)
    config(folder, "special_tokens_map.json", bos_token="<s>", eos_token="<unk>")
    made = read_tokenizer(folder, [], 272)
    assert (made.bos, made.eos) == ("<s>", "</s>")
    assert made.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_a_stop_token_of_the_model_ends_texts_where_none_is_named(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    made = read_tokenizer(folder, [2], 272)
    assert (made.eos, made.eos_id, made.stop_ids) == (None, 2, {2})
    bare = read_tokenizer(folder, [], 272)
    assert (bare.eos_id, bare.stop_ids) == (None, frozenset())


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": "A"}}, "A"),
        ({"tokenizer_config.json": {"chat_template": " "}}, None),
        ({"tokenizer_config.json": {"chat_template": 5}}, None),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [
                        {"name": "tool_use", "template": "T"},
                        {"name": "default", "template": "D"},
                    ]
                }
            },
            "D",
        ),
        ({"chat_template.json": {"chat_template": "J"}}, "J"),
        ({"tokenizer_config.json": {"chat_template": "A"}, "chat_template.jinja": "X\n"}, "X\n"),
    ],
)
def test_where_the_template_may_be(folder: Path, files: dict[str, Any], wanted: str | None) -> None:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    assert read_tokenizer(folder, [], 272).chat_template == wanted


def test_truncation_and_padding_of_the_file_are_off(folder: Path) -> None:
    path = str(folder / "tokenizer.json")
    inner = tokenizers.Tokenizer.from_file(path)
    inner.enable_truncation(4)
    inner.enable_padding(length=9, pad_id=0, pad_token="<unk>")
    inner.save(path)
    assert len(read_tokenizer(folder, [], 272).encode("abcdefgh")) == 8
    assert len(read_tokenizer(folder, [], 272).encode("ab")) == 2


def test_a_missing_one(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "missing" in refused(folder).why


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 9999, b'{"model": {"type": "BPE"}}']
)
def test_a_broken_one(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    assert "cannot be read" in refused(folder).why


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 99999])
@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "chat_template.json"]
)
def test_broken_settings(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert refused(folder).where.endswith(name)


def test_one_bigger_than_the_model(folder: Path) -> None:
    assert read_tokenizer(folder, [], 259).size == 259
    assert "ids up to 258, but the model has 258" in refused(folder, 258).why


def add(folder: Path, *texts: str) -> None:
    path = str(folder / "tokenizer.json")
    inner = tokenizers.Tokenizer.from_file(path)
    inner.add_special_tokens(list(texts))
    inner.save(path)


def test_an_unused_token_beyond_the_model_is_plain_text(folder: Path) -> None:
    """Gemma 3 1B: its tokenizer has an image token, number 262144 of a model of 262144 entries."""
    add(folder, "<image>")
    config(folder, bos_token="<s>", eos_token="</s>", image_token="<image>", chat_template="x")
    made = read_tokenizer(folder, [], 259)
    ids = made.encode("a<image>b")
    assert max(ids) < 259
    assert made.decode(ids) == "a<image>b"
    assert made.encode_document("a")[0] == 1
    assert "<image>" not in made.special_texts
    assert len(read_tokenizer(folder, [], 260).encode("a<image>b")) == 3


@pytest.mark.parametrize("use", [{"eos_token": "<end>"}, {"chat_template": "x<end>"}])
def test_a_used_token_beyond_the_model_is_refused(folder: Path, use: dict[str, str]) -> None:
    add(folder, "<end>")
    config(folder, bos_token="<s>", **use)
    assert "ids up to 259" in refused(folder, 259).why


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
@pytest.mark.parametrize(
    ("family", "size"),
    [("llama3", 128256), ("gemma3", 262144), ("qwen3", 151936), ("llama2", 32000), ("phi3", 32064)],
)
def test_real_ones(family: str, size: int) -> None:
    made = read_tokenizer(SHARED / "tokenizers" / family, [], size)
    text = "Grüße, 世界 \U0001f600 don't  stop\n\n1234 "
    assert made.decode(made.encode(text)) == text
    assert made.eos_id in made.stop_ids
    assert max(made.encode(text)) < size


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
def test_that_of_another_model() -> None:
    error = refused(SHARED / "tokenizers" / "llama2", 4096)
    assert "ids up to 31,999, but the model has 4,096" in error.why


def test_the_class_needs_no_folder() -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, "?"))
    made = Tokenizer(inner, {"eos_token": "nowhere"}, [1])
    assert (made.eos, made.eos_id, made.encode("a")) == ("nowhere", 1, [0])
