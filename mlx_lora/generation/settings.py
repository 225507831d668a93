"""How an answer is drawn: the settings of every generation."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mlx_lora.config import Rule


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an answer is drawn."""

    max_tokens: Annotated[int, Rule("longest answer in tokens", 1, 131072)] = 200
    temperature: Annotated[
        float, Rule("0 takes the likeliest word, more is livelier", 0.0, 10.0)
    ] = 0.0
    top_p: Annotated[float, Rule("share of likely words drawn from", 0.0, 1.0, above=True)] = 1.0
    repetition_penalty: Annotated[
        float, Rule("makes words of the last 64 tokens less likely; 1 is off", 1.0, 10.0)
    ] = 1.0
    seed: Annotated[int, Rule("same seed, same answer", 0, 2**53)] = 0
