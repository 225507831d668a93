"""What a run's engine does, in sentences for people who do not know the words. No mlx here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_lora.training.engine import Engine

_SOURCES = {
    "table": "This is the usual choice for this machine.",
    "measured": "This was the fastest of {tried} ways tried on this machine.",
    "remembered": "This was the fastest when the same settings were measured before.",
    "kept": "This was the fastest of those tried on this machine when the run began.",
    "begun before": "The run was begun with an earlier version and goes on as it began.",
}


def sentences(engine: Engine, facts: dict[str, Any]) -> list[str]:
    """What is done and why.

    `facts`: `padding` (share of positions), `row_length` of packed rows, `prefix_bytes`,
    `base_words` (a sentence on how the weights are held, or empty), `tried` (ways measured).
    """
    said = [_batching(engine, facts)]
    if engine.loss == "chunked":
        said.append("The scores of all words are made for a few tokens at a time, to save memory.")
    if engine.recompute:
        which = "every layer" if engine.recompute == 1 else f"one layer in {engine.recompute}"
        said.append(f"To save memory, what {which} made is computed again when it is needed.")
    if engine.prefix:
        size = f"{facts['prefix_bytes'] / 1e6:,.0f} MB"
        said.append(f"What the frozen layers make of your rows is kept over the epochs ({size}).")
    if facts.get("base_words"):
        said.append(facts["base_words"])
    if engine.compiled:
        said.append("Each step goes through MLX's compiler.")
    # a run that goes on does not measure again
    source = "kept" if engine.source == "measured" and not facts["tried"] else engine.source
    return [*said, _SOURCES[source].format(tried=facts["tried"])]


def _batching(engine: Engine, facts: dict[str, Any]) -> str:
    empty = f"{facts['padding']:.1%} of the work is on nothing"
    if engine.batching == "pack":
        length = facts["row_length"]
        return (
            f"Short rows of yours share rows of {length} tokens and do not see each other; {empty}."
        )
    if engine.batching == "buckets":
        return f"Rows of like length are learnt together, so many tokens at a time; {empty}."
    return f"Rows of like length are learnt together, as many as the batch size says; {empty}."
