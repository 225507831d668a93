"""What to expect of so many rows for this model, and a rank to start with."""

from __future__ import annotations

from typing import Any

from mlx_lora.config import AdapterConfig
from mlx_lora.models.shape import Shape, adapter_parameters

# rows (of answers) or tokens (of running text) from which on a dataset is few, good, plenty
_ROWS, _TOKENS = (10, 50, 1_000), (2_000, 20_000, 500_000)
_SIZES = ("too_few", "few", "good", "plenty")
# a model takes in about 2 bits a trained number (Allen-Zhu and Li 2024, "Physics of Language
# Models 3.3"); text teaches about 1 bit a token (Schulman et al. 2025, "LoRA Without Regret")
_BITS_A_NUMBER, _BITS_A_TOKEN = 2.0, 1.0
_RANKS = (8, 16, 32, 64)
_EXPECT = {
    "too_few": "Too few: they will be learnt by heart, and little else.",
    "few": "Few: enough for a tone or a form, not for knowledge. Five to ten rounds suit.",
    "good": "A good size: enough for a style and for one kind of task. Three rounds suit.",
    "plenty": "Plenty: one or two rounds are enough.",
}


def judge_size(
    rows: int, tokens: int, *, running_text: bool, shape: Shape | None
) -> dict[str, Any]:
    """`size`, `text`, `rank` and `rank_text` for `rows` that teach `tokens` a round.

    `running_text`: the rows are blocks of documents, so that tokens count and not rows. Without a
    `shape` the rank is the default.
    """
    borders, measured = (_TOKENS, tokens) if running_text else (_ROWS, rows)
    size = _SIZES[sum(measured >= border for border in borders)]
    rank, rank_text = _choose_rank(tokens, shape)
    return {"size": size, "text": _EXPECT[size], "rank": rank, "rank_text": rank_text}


def _choose_rank(tokens: int, shape: Shape | None) -> tuple[int, str]:
    """The smallest usual rank whose adapter can hold what the rows teach."""
    if shape is None:
        return AdapterConfig().rank, "The usual rank to start with."
    sizes = {rank: adapter_parameters(shape, AdapterConfig(rank=rank)) for rank in _RANKS}
    needed = tokens * _BITS_A_TOKEN / _BITS_A_NUMBER
    rank = next((rank for rank, numbers in sizes.items() if numbers >= needed), _RANKS[-1])
    holds = "holds" if sizes[rank] >= needed else "holds most of"
    text = (
        f"At rank {rank} the adapter has {sizes[rank]:,} numbers, "
        f"which {holds} what {tokens:,} tokens teach."
    )
    return rank, text
