"""Drawing a token, and a whole answer with its cache, each against the plain way of doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from models_made import attach_adapter, make_model, randomize_adapter
from reference import log_softmax

from mlx_lora.generation import engine
from mlx_lora.generation.engine import Piece, TextStream, complete, generate
from mlx_lora.generation.sampling import _penalized, next_token, recent_of
from mlx_lora.generation.settings import Sampling
from mlx_lora.models.loading import LoadedModel, load_model
from mlx_lora.models.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

LOGITS = np.array([1.0, 3.0, 0.5, 2.0, -1.0, 2.5, 0.0, -4.0], np.float32)


def draw(position: int = 0, recent: list[int] | None = None, **settings: Any) -> int:
    token, _ = next_token(mx.array(LOGITS), recent_of(recent or []), position, Sampling(**settings))
    return int(token.item())


def counts(number: int, **settings: Any) -> np.ndarray:
    tokens = [draw(0, seed=seed, **settings) for seed in range(number)]
    return np.bincount(tokens, minlength=8)


def chi_square(found: np.ndarray, share: np.ndarray) -> float:
    expected = share * found.sum()
    return float(((found - expected)[share > 0] ** 2 / expected[share > 0]).sum())


def test_greedy_takes_the_likeliest_whatever_the_seed() -> None:
    assert {draw(n, seed=n, top_p=0.5) for n in range(20)} == {1}


def test_log_probabilities_are_the_models_own() -> None:
    for temperature, top_p in ((0.0, 1.0), (0.7, 1.0), (2.0, 0.3)):
        settings = Sampling(temperature=temperature, top_p=top_p)
        _, found = next_token(mx.array(LOGITS), recent_of([]), 0, settings)
        assert np.abs(np.array(found) - log_softmax(LOGITS.astype(np.float64))).max() < 1e-6


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_draws_from_the_softmax(temperature: float) -> None:
    share = np.exp(log_softmax(LOGITS.astype(np.float64) / temperature))
    found = counts(1500, temperature=temperature)
    assert chi_square(found, share) < 29.9  # 7 degrees, p = 1e-4
    wrong = np.exp(log_softmax(LOGITS.astype(np.float64) / (temperature * 1.4)))
    assert chi_square(found, wrong) > 29.9, "the test could not tell another temperature"


def test_positions_of_one_seed_are_independent_draws() -> None:
    share = np.exp(log_softmax(LOGITS.astype(np.float64)))
    tokens = np.array([draw(position, seed=7, temperature=1.0) for position in range(1500)])
    assert chi_square(np.bincount(tokens, minlength=8), share) < 29.9
    same = (tokens[1:] == tokens[:-1]).mean()
    assert abs(same - (share**2).sum()) < 4 * (0.25 / 1500) ** 0.5


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, 1), (0.44, 1), (0.47, 2), (0.8, 3), (0.9, 4), (1.0, 8)]
)
def test_the_nucleus_is_the_smallest_set(top_p: float, kept: int) -> None:
    share = np.exp(log_softmax(LOGITS.astype(np.float64)))
    order = np.argsort(-share)
    sums = np.cumsum(share[order])
    assert top_p >= 1 or int((sums < top_p).sum()) + 1 == kept, "the test's own table is wrong"
    wanted = np.zeros(8)
    wanted[order[:kept]] = share[order[:kept]] / sums[kept - 1]
    found = counts(600, temperature=1.0, top_p=top_p)
    assert not found[wanted == 0].any()
    assert chi_square(found, wanted) < 29.9


def test_the_nucleus_is_taken_after_temperature() -> None:
    hot = np.exp(log_softmax(LOGITS.astype(np.float64) / 3.0))
    size = int((np.cumsum(np.sort(hot)[::-1]) < 0.6).sum()) + 1
    assert size == 3
    assert (counts(400, temperature=1.0, top_p=0.6) > 0).sum() == 2
    assert (counts(400, temperature=3.0, top_p=0.6) > 0).sum() == size


def test_equal_logits_keep_just_enough() -> None:
    settings = [Sampling(temperature=1.0, top_p=0.5, seed=seed) for seed in range(60)]
    tokens = {int(next_token(mx.zeros((4,)), recent_of([]), 0, s)[0].item()) for s in settings}
    assert len(tokens) == 2


def test_the_penalty_by_hand() -> None:
    settings = Sampling(repetition_penalty=2.0)
    token, found = next_token(mx.array(LOGITS), recent_of([1, 4, 1, 6]), 0, settings)
    penalized = np.array(_penalized(mx.array(LOGITS), recent_of([1, 4, 1, 6]), 2.0))
    wanted = LOGITS.copy()
    wanted[[1, 4, 6]] = [1.5, -2.0, 0.0]  # 3 / 2, -1 * 2, 0
    assert np.array_equal(penalized, wanted)
    assert int(token.item()) == 5
    # what is reported stays the model's own
    assert np.abs(np.array(found) - log_softmax(LOGITS.astype(np.float64))).max() < 1e-6


def test_the_penalty_looks_back_64_tokens() -> None:
    assert draw(recent=[1] + [7] * 63, repetition_penalty=2.0) == 5
    assert draw(recent=[1] + [7] * 64, repetition_penalty=2.0) == 1


def test_the_logits_that_were_given_stay_as_they_are() -> None:
    logits = mx.array(LOGITS)
    next_token(
        logits, recent_of([1, 4]), 0, Sampling(repetition_penalty=3.0, temperature=1.0, top_p=0.5)
    )
    assert np.array_equal(np.array(logits), LOGITS)


@pytest.mark.parametrize("seed", [0, 2**43, 2**44, 2**53])
def test_every_seed_that_may_be_asked_for(seed: int) -> None:
    def tokens(number: int) -> list[int]:
        return [draw(position, seed=number, temperature=2.0) for position in range(40)]

    mx.random.seed(0)
    first = tokens(seed)
    mx.random.seed(1)
    assert tokens(seed) == first
    assert tokens(seed - 1 if seed else 1) != first


# ------------------------------------------------------------------------------ whole answers


def ids_of(text: str, base: LoadedModel) -> list[int]:
    return base.tokenizer.encode_document(text)


@pytest.fixture(params=["llama", "gemma3_text", "qwen2", "qwen3", "phi3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    base = load_model(str(make_model(tmp_path / "m", request.param, tied=False)))
    adapter = attach_adapter(base.module, rank=4)
    randomize_adapter(adapter)
    adapter.train(False)
    return base


def greedy(base: LoadedModel, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """Without any cache: the whole text through the model for every token."""
    tokens, logprobs = list(prompt), []
    for _ in range(count):
        logits = np.array(base.module(mx.array([tokens]))[0, -1], np.float64)
        tokens.append(int(logits.argmax()))
        logprobs.append(float(log_softmax(logits).max()))
    return tokens[len(prompt) :], logprobs


@pytest.mark.parametrize("stretch", [3, 512])
def test_the_cache_changes_nothing(
    base: LoadedModel, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than gemma's window of 8; with a prompt read in one go and in stretches."""
    monkeypatch.setattr(engine, "_PREFILL", stretch)
    prompt = ids_of("the quick brown fox", base)
    tokens, logprobs = greedy(base, prompt, 24)
    assert len(set(tokens)) > 3
    pieces = list(generate(base.module, base.tokenizer, prompt, [], Sampling(max_tokens=24)))
    assert [piece.token for piece in pieces] == tokens
    assert np.abs(np.array([piece.logprob for piece in pieces]) - logprobs).max() < 1e-4
    assert [piece.stop for piece in pieces] == [""] * 23 + ["length"]
    assert "".join(p.text for p in pieces) == base.tokenizer.decode(tokens)


def answer(base: LoadedModel, stop_ids: list[int] | None = None, **settings: Any) -> list[Piece]:
    prompt = ids_of("once upon a time", base)
    found = generate(base.module, base.tokenizer, prompt, stop_ids or [], Sampling(**settings))
    return list(found)


@pytest.fixture
def told(stories: Path) -> LoadedModel:
    return load_model(str(stories))


def test_same_seed_same_answer_other_seed_another(told: LoadedModel) -> None:
    def tokens(seed: int) -> list[int]:
        return [p.token for p in answer(told, max_tokens=20, temperature=1.0, seed=seed)]

    first = tokens(3)
    mx.random.seed(77)
    assert tokens(3) == first
    assert len({tuple(tokens(seed)) for seed in (3, 4, 5, 2**53)}) == 4


def test_a_real_model_says_the_same_with_and_without_cache(told: LoadedModel) -> None:
    prompt = ids_of("Once upon a time", told)
    tokens, _ = greedy(told, prompt, 40)
    pieces = list(generate(told.module, told.tokenizer, prompt, [], Sampling(max_tokens=40)))
    assert [piece.token for piece in pieces] == tokens
    whole = told.tokenizer.decode(prompt + tokens)
    text = "".join(piece.text for piece in pieces)
    assert told.tokenizer.decode(prompt) + text == whole
    assert text == complete(told.module, told.tokenizer, prompt, [], Sampling(max_tokens=40))
    assert " " in text


def test_the_space_before_the_first_word_is_kept(told: LoadedModel) -> None:
    """This decoder drops the space at the start of what it is given."""
    word = told.tokenizer.encode("Once upon a time")[-1]
    if not told.tokenizer.token_text(word).startswith("▁"):
        word = told.tokenizer.encode("x the")[-1]
    assert told.tokenizer.token_text(word).startswith("▁")
    assert not told.tokenizer.decode([word]).startswith(" ")

    class Fixed:
        """Says that word whatever it is asked."""

        layers = told.module.layers

        def __call__(self, ids: mx.array, **_: Any) -> mx.array:
            return mx.zeros((1, ids.shape[1], 512)).at[..., word].add(1.0)

    prompt = ids_of("Once upon", told)
    (piece,) = generate(Fixed(), told.tokenizer, prompt, [], Sampling(max_tokens=1))
    assert piece.text == " " + told.tokenizer.decode([word])


def test_a_stop_token_ends_it_and_is_not_shown(told: LoadedModel) -> None:
    free = answer(told, max_tokens=20)
    tokens = [piece.token for piece in free]
    stop = tokens[8]
    end = tokens.index(stop)
    held = answer(told, [stop], max_tokens=20)
    assert [piece.token for piece in held] == tokens[: end + 1]
    assert [piece.stop for piece in held] == [""] * end + ["stop"]
    shown = "".join(piece.text for piece in free[:end])
    assert "".join(piece.text for piece in held) == shown


def test_the_penalty_sees_prompt_and_answer(told: LoadedModel) -> None:
    plain = [p.token for p in answer(told, max_tokens=30)]
    fresh = [p.token for p in answer(told, max_tokens=30, repetition_penalty=10.0)]
    assert len(set(plain)) < 30
    assert len(set(fresh)) > len(set(plain))


def test_the_penalty_by_a_reference_without_cache(told: LoadedModel) -> None:
    """In float64 on the CPU, over a text longer than the penalty looks back."""
    prompt, tokens = ids_of("once upon a time", told), []
    for _ in range(90):
        logits = np.array(told.module(mx.array([prompt + tokens]))[0, -1], np.float64)
        seen = sorted(set((prompt + tokens)[-64:]))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / 1.3, logits[seen] * 1.3)
        tokens.append(int(logits.argmax()))
    found = answer(told, max_tokens=90, repetition_penalty=1.3)
    assert [piece.token for piece in found] == tokens
    assert tokens != [piece.token for piece in answer(told, max_tokens=90)]


def test_the_next_token_is_begun_before_one_is_told(told: LoadedModel) -> None:
    """The engine is at work while a token is read and shown, and on nothing behind the last."""
    calls = []

    class Counted:
        layers = told.module.layers

        def __call__(self, ids: mx.array, **named: Any) -> mx.array:
            calls.append(ids.shape[1])
            return told.module(ids, **named)

    prompt = ids_of("once upon a time", told)
    seen = [
        sum(calls) for _ in generate(Counted(), told.tokenizer, prompt, [], Sampling(max_tokens=5))
    ]
    assert seen == [len(prompt) + ahead for ahead in (1, 2, 3, 4, 4)]


# ------------------------------------------------------------------------------------- text

TEXT = "Grüße 👩‍👩‍👧 — naïve 日本語! 🎭 end"


def streamed(tokenizer: Any, ids: list[int], context: list[int]) -> list[str]:
    stream = TextStream(tokenizer, context)
    return [*(stream.add(token) for token in ids), stream.finish()]


def test_characters_of_several_tokens_come_whole(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    tokenizer = read_tokenizer(tmp_path / "m", [], 272)
    ids = tokenizer.encode(TEXT)
    assert len(ids) == len(TEXT.encode())
    for context in ([], tokenizer.encode_document("said: ")[-8:], tokenizer.encode("🎭é")[-8:]):
        pieces = streamed(tokenizer, ids, context)
        assert "".join(pieces) == TEXT
        assert not any("\ufffd" in piece for piece in pieces)
        assert all(
            piece in {"", char} for piece, char in zip(pieces, _last_bytes(TEXT), strict=False)
        )


def _last_bytes(text: str) -> list[str]:
    """For every byte the character it completes, or nothing."""
    return [part for char in text for part in [""] * (len(char.encode()) - 1) + [char]]


def test_bytes_of_a_sentencepiece_vocabulary_come_whole(told: LoadedModel) -> None:
    ids = told.tokenizer.encode(TEXT)
    assert len(ids) > len(TEXT), "no character is split, so nothing is tested"
    context = told.tokenizer.encode_document("Once upon")[-8:]
    pieces = streamed(told.tokenizer, ids, context)
    whole = told.tokenizer.decode(context + ids)[len(told.tokenizer.decode(context)) :]
    assert "".join(pieces) == whole
    assert TEXT in whole
    assert not any("\ufffd" in piece for piece in pieces)


def test_an_unfinished_character_is_given_out_at_the_end(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    tokenizer = read_tokenizer(tmp_path / "m", [], 272)
    ids = tokenizer.encode("a🎭")[:-1]
    pieces = streamed(tokenizer, ids, [])
    assert pieces[:-1] == ["a", "", "", ""]
    assert pieces[-1].strip("\ufffd") == ""
    assert pieces[-1]


@pytest.mark.parametrize(
    "family",
    [
        "phi3",
        "llama2",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("gemma3", "llama3", "qwen3")),
    ],
)
def test_streams_of_real_tokenizers(shared: Path, family: str) -> None:
    folder = shared / "tokenizers" / family
    tokenizer = read_tokenizer(folder, [], 1 << 22)
    ids, context = tokenizer.encode(TEXT), tokenizer.encode_document("He said:\n")[-8:]
    pieces = streamed(tokenizer, ids, context)
    whole = tokenizer.decode(context + ids)[len(tokenizer.decode(context)) :]
    assert "".join(pieces) == whole
    assert TEXT in whole
    assert not any("\ufffd" in piece for piece in pieces)
