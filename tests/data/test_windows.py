"""Rows longer than the limit: what is kept, what is cut, and what is said of it."""

from __future__ import annotations

import conversations as here
import pytest

from mlx_lora.data.formats import Completion, Text
from mlx_lora.data.preview import row_pieces
from mlx_lora.data.render import Rendered, Renderer
from mlx_lora.data.windows import Limit

pytestmark = pytest.mark.skipif(not here.SHARED.is_dir(), reason="../shared is not here")
ROW = Completion(5, "one two three four five six seven", "eight nine ten eleven")


def row(tokens: list[int], mask: list[int]) -> Rendered:
    return Rendered(1, tokens, mask)


def test_cut_keeps_the_start() -> None:
    made = Limit(4).fit(row([9, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1]), keep_rest=True)
    assert (made.tokens, made.mask, made.rest) == ([9, 1, 2, 3], [0, 0, 0, 1], (4, 5))
    assert (made.cut, made.end_cut, made.dropped) == (2, True, False)
    assert made.whole() == ([9, 1, 2, 3, 4, 5], ["masked"] * 3 + ["trained"] + ["cut"] * 2)


def test_keep_end_keeps_the_start_token_and_the_end() -> None:
    long = row([9, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1])
    made = Limit(4, "keep-end", bos_id=9).fit(long, keep_rest=True)
    assert (made.tokens, made.mask, made.rest) == ([9, 3, 4, 5], [0, 1, 1, 1], (1, 2))
    assert (made.cut, made.end_cut, made.gap) == (2, False, 1)
    assert made.whole() == ([9, 1, 2, 3, 4, 5], ["masked", "cut", "cut"] + ["trained"] * 3)
    made = Limit(2, "keep-end").fit(long, keep_rest=False)
    assert (made.tokens, made.mask, made.rest, made.gap) == ([4, 5], [0, 1], (), 0)


def test_an_end_that_lies_before_the_cut_is_not_lost() -> None:
    whole = row([9, 1, 2, 3, 4, 5], [0, 1, 1, 0, 0, 0])
    assert not Limit(4).fit(whole, keep_rest=False).end_cut
    assert Limit(2).fit(whole, keep_rest=False).end_cut
    assert Limit(2, "keep-end").fit(whole, keep_rest=False).end_cut


def test_drop_learns_nothing_of_it() -> None:
    whole = row([9, 1, 2, 3], [0, 0, 1, 1])
    made = Limit(3, "drop").fit(whole, keep_rest=True)
    assert (made.targets, made.dropped, made.cut, made.end_cut) == (0, True, 1, False)
    assert made.whole()[0] == whole.tokens
    fits = Limit(4, "drop").fit(whole, keep_rest=True)
    assert (fits.tokens, fits.mask, fits.dropped, fits.gap) == (
        whole.tokens,
        whole.mask,
        False,
        None,
    )


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("choice", ["cut", "keep-end", "split", "drop"])
def test_the_smallest_limits(limit: int, choice: str) -> None:
    for bos in (None, 9):
        made = Limit(limit, choice, 5, bos).fit(row([9, 1, 2, 3], [1] * 4), keep_rest=True)  # type: ignore[arg-type]
        assert len(made.tokens) == len(made.mask) == limit
        assert made.mask[0] == 0
        assert made.whole()[0] == [9, 1, 2, 3]


@pytest.mark.parametrize("family", here.FAMILIES)
def test_a_stop_is_learnt_where_the_end_is_kept(family: str) -> None:
    (whole,) = Renderer(here.tokenizer(family), 512, today="2026-01-01").render(ROW)
    assert whole.stops
    assert not whole.end_cut
    limit = whole.targets + 4
    made = {
        choice: Renderer(here.tokenizer(family), limit, today="2026-01-01", long_rows=choice)  # type: ignore[arg-type]
        for choice in ("cut", "keep-end", "split", "drop")
    }
    (cut,), (end,), (split,), (drop,) = (one.render(ROW) for one in made.values())
    stops = made["cut"].stop_ids
    learnt = {t for t, m in zip(end.tokens, end.mask, strict=True) if m}
    assert learnt & stops
    assert end.targets == whole.targets
    assert end.tokens[-limit + 1 :] == whole.tokens[-limit + 1 :]
    if whole.tokens[0] == here.tokenizer(family).bos_id:
        assert end.tokens[0] == whole.tokens[0]
    assert cut.end_cut
    assert split == cut
    assert (drop.row, drop.dropped, drop.targets) == (5, True, 0)
    assert all(one.stops for one in (cut, end, split, drop))


def test_a_text_without_any_end_does_not_stop() -> None:
    inner = here.tokenizer("qwen3")
    bare = type(inner)(inner._inner, {}, [])
    (one,) = Renderer(bare, 99).render(Text(1, "word " * 3))
    assert not one.stops


def test_what_was_cut_is_shown_in_its_place() -> None:
    inner = here.tokenizer("llama3")
    (whole,) = Renderer(inner, 512, today="2026-01-01").render(ROW)
    made = Renderer(inner, 16, today="2026-01-01", long_rows="keep-end")
    made.keeps_rest = True
    (end,) = made.render(ROW)
    pieces = row_pieces(inner, end)
    assert "".join(text for text, _ in pieces) == inner.decode(whole.tokens, keep_special=True)
    states = [state for _, state in pieces]
    assert states[:2] == ["masked", "cut"]
    assert states[-1] == "trained"
    assert states.count("cut") == end.cut == len(whole.tokens) - 16
    assert row_pieces(inner, end, 5) == pieces[:5]
