"""The fields of Configure: where each is, what it is called, how it is edited.

What a field means and the numbers it may hold come from the configuration's own rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import msgspec

from app.words import MACHINE
from mlx_lora.config import Rule, RunConfig, rules
from mlx_lora.models.packing import PACKED

if TYPE_CHECKING:
    from app.models.recipe import Place, Tree
    from mlx_lora.forecast import Base

Kind = Literal["whole", "number", "choice", "flag", "prompts"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field.

    Attributes:
        more: a sentence behind what the rule says.
        empty: what holds where nothing is typed, in words; empty where something must be.
        none: what it is called in the configuration.
        choices: (value, words) of a choice.
    """

    place: tuple[str, str]
    label: str
    kind: Kind
    more: str = ""
    empty: str = ""
    none: str | None = None
    choices: tuple[tuple[Any, str], ...] = ()


PLAIN = (
    Field(place=("training", "epochs"), label="Epochs", kind="number",
          more="Too many, and rows are learnt by heart."),
    Field(place=("training", "learning_rate"), label="Learning Rate", kind="number",
          more="Lower is safer, higher is quicker."),
    Field(place=("adapter", "rank"), label="Rank", kind="whole", more="8 to 32 suits most tasks."),
    Field(place=("training", "batch_size"), label="Batch Size", kind="whole",
          more="More rows need more memory."),
    Field(place=("data", "max_length"), label="Max Length", kind="whole"),
    Field(place=("model", "bits"), label="Base Precision", kind="choice",
          choices=(("keep", "Keep"), ("4", "4-bit"), ("6", "6-bit"), ("8", "8-bit"),
                   ("16", "16-bit"))),
    Field(place=("training", "grad_checkpoint"), label="Save Memory", kind="flag",
          more="Learns the same, about a third slower."),
)  # fmt: skip
EVERY = Field(place=("training", "checkpoint_every"), label="Save Memory In", kind="choice",
              choices=((1, "Every Layer"), (2, "Every Second")))  # fmt: skip
STEPS = Field(place=("training", "steps"), label="Steps", kind="whole", empty="By epochs")
ADVANCED = (
    Field(place=("adapter", "alpha"), label="Strength (Alpha)", kind="number",
          empty="2 × rank"),
    Field(place=("adapter", "dropout"), label="Dropout", kind="number",
          more="A little helps where rows are few."),
    Field(place=("adapter", "targets"), label="Target Layers", kind="choice",
          choices=((["all"], "All"), (["attention"], "Attention"), (["mlp"], "Feed-Forward"))),
    Field(place=("adapter", "layers"), label="Last Layers", kind="whole", empty="All", none="all"),
    Field(place=("training", "warmup"), label="Warm-Up", kind="number"),
    Field(place=("training", "weight_decay"), label="Weight Decay", kind="number"),
    Field(place=("training", "clip"), label="Gradient Limit", kind="number"),
    Field(place=("training", "grad_accumulation"), label="Batches a Step", kind="whole",
          more="Like a larger batch, without the memory."),
    Field(place=("training", "seed"), label="Seed", kind="whole"),
    Field(place=("training", "eval_every"), label="Measure Every", kind="whole",
          empty="Automatic"),
    Field(place=("training", "save_every"), label="Save Every", kind="whole", empty="Automatic"),
    Field(place=("training", "sample_every"), label="Sample Every", kind="whole",
          empty="Automatic"),
    Field(place=("training", "patience"), label="Stop Early", kind="whole", empty="Never"),
    Field(place=("data", "train_on"), label="Learn From", kind="choice",
          choices=(("completions", "Answers"), ("last", "Last Answer"), ("all", "Everything"))),
    Field(place=("samples", "prompts"), label="Sample Prompts", kind="prompts",
          empty="From the data"),
)  # fmt: skip
ENGINE = (
    Field(place=("engine", "batching"), label="Batching", kind="choice",
          choices=(("auto", "Automatic"), ("pack", "Packed Rows"), ("buckets", "Like Lengths"),
                   ("rows", "Exact Batch Size"))),
    Field(place=("engine", "loss"), label="Scores of Words", kind="choice",
          more="The first needs far less memory.",
          choices=(("auto", "Automatic"), ("chunked", "A Few Tokens at a Time"),
                   ("full", "All at Once"))),
    Field(place=("engine", "prefix_cache"), label="Frozen Layers", kind="choice",
          choices=(("auto", "Automatic"), ("on", "Keep What They Make"),
                   ("off", "Compute Each Time"))),
    Field(place=("engine", "compile"), label="MLX Compiler", kind="choice",
          more="The first steps take longer then.",
          choices=(("auto", "Automatic"), ("on", "On"), ("off", "Off"))),
    Field(place=("engine", "base"), label="Quantized Weights", kind="choice",
          more="Floats need more memory.",
          choices=(("auto", "Automatic"), ("packed", "Packed"), ("plain", "As Floats"))),
)  # fmt: skip
ENGINE_WORDS = (
    f"Automatic takes what suits this {MACHINE}; Train says under Engine what that is. "
    "What is learnt stays the same."
)
FIELDS = (*PLAIN, EVERY, STEPS, *ADVANCED, *ENGINE)
PLACES = tuple(field.place for field in FIELDS)


def rule_of(place: Place) -> Rule:
    """The rule of a field's place."""
    group, name = place
    return rules(get_type_hints(RunConfig)[group])[name]


def idle(values: Tree, base: Base | None) -> dict[Place, str]:
    """Fields that change nothing with these values and this model, and why."""
    found: dict[Place, str] = {}
    layers = values.get("adapter", {}).get("layers")
    there = base.shape.layers if base is not None else 0
    if layers == "all" or (isinstance(layers, int) and 0 < there <= layers):
        found["engine", "prefix_cache"] = "None is frozen: every layer is adapted (Last Layers)."
    stays = values.get("model", {}).get("bits") not in PACKED
    if base is not None and base.bits >= 16 and stays:  # noqa: PLR2004
        found["engine", "base"] = "The weights of this model are not quantized."
    if values.get("training", {}).get("grad_checkpoint") is not True:
        found[EVERY.place] = "Only with Save Memory."
    return found


def sentence(field: Field) -> str:
    """What a field means."""
    said = rule_of(field.place).help
    return f"{said[:1].upper()}{said[1:]}. {field.more}".strip().replace("'", "’")


def limits(field: Field) -> str:
    """The numbers a field may hold, in words; empty where it holds none."""
    rule = rule_of(field.place)
    if rule.low is None or rule.high is None or field.kind not in {"whole", "number"}:
        return ""
    low = f"More than {rule.low:,g}" if rule.above else f"From {rule.low:,g}"
    return f"{low} to {rule.high:,g}."
