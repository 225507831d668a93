"""The run configuration: one typed tree, with the help text and the limits beside each field.

Labels, tooltips, command-line help, validation and `config.toml` all come from here. Defaults are
the values below; presets state differences only.
"""

from __future__ import annotations

import difflib
import functools
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Rule(msgspec.Struct, frozen=True):
    """What a field means, and the numbers it may hold (ends included unless `above`)."""

    help: str
    low: float | None = None
    high: float | None = None
    above: bool = False


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model learns."""

    source: Annotated[str, Rule("a local folder, a Hugging Face id on this Mac, or demo")]
    bits: Annotated[
        Literal["keep", "4", "6", "8", "16", "32"],
        Rule("bits a weight while training; 4 needs least memory, keep leaves the model as it is"),
    ] = "keep"


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it learns from."""

    source: Annotated[
        str,
        Rule("a file, a folder, a Hugging Face dataset id, sample:NAME, tiny-shakespeare, or demo"),
    ]
    subset: Annotated[str, Rule("which configuration of a Hugging Face dataset")] = ""
    split: Annotated[str, Rule("which split of a Hugging Face dataset is learnt")] = ""
    columns: Annotated[
        dict[str, str], Rule("which column is which field, where the names do not say it")
    ] = {}
    template: Annotated[
        Literal["auto", "none", "alpaca", "plain", "chatml"],
        Rule(
            "how rows are put to a model without a chat template of its own; "
            "auto follows the model, else the rows"
        ),
    ] = "auto"
    max_length: Annotated[int, Rule("longest row in tokens", 8, 131072)] = 512
    long_rows: Annotated[
        Literal["cut", "keep-end", "split", "drop"],
        Rule("longer rows: cut their end, keep their end, split texts into windows, or leave out"),
    ] = "cut"
    overlap: Annotated[
        int, Rule("tokens a window repeats of the one before, read and not learnt", 0, 65536)
    ] = 0
    val_fraction: Annotated[
        float, Rule("share of the rows held out to measure what was learnt", 0.0, 0.9)
    ] = 0.1
    train_on: Annotated[
        Literal["completions", "last", "all"],
        Rule("learn the answers, only the last answer of a conversation, or every token"),
    ] = "completions"


class AdapterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter: small matrices beside the frozen weights (LoRA, Hu et al. 2021)."""

    rank: Annotated[int, Rule("how much the adapter can hold", 1, 4096)] = 8
    alpha: Annotated[
        float | None, Rule("strength of the adapter; 2 x rank when not given", 0.0, 1e6, above=True)
    ] = None
    dropout: Annotated[
        float, Rule("share of inputs hidden from the adapter each step", 0.0, 0.9)
    ] = 0.0
    targets: Annotated[
        tuple[str, ...], Rule("which linear layers: attention, mlp, all, or module names")
    ] = ("all",)
    layers: Annotated[
        int | Literal["all"], Rule("how many of the last layers are adapted, or all", 1, 100000)
    ] = "all"

    @property
    def strength(self) -> float:
        """Alpha, resolved: the product is scaled by alpha / rank."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    @property
    def scale(self) -> float:
        """Alpha / rank, what the adapter's output is multiplied with."""
        return self.strength / self.rank


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it learns."""

    epochs: Annotated[float, Rule("times every row is seen", 0.0, 10000.0, above=True)] = 3.0
    steps: Annotated[int | None, Rule("optimizer steps, in place of epochs", 1, 10_000_000)] = None
    batch_size: Annotated[
        int, Rule("rows a batch, on average where they differ in length", 1, 4096)
    ] = 4
    grad_accumulation: Annotated[int, Rule("batches a step", 1, 4096)] = 1
    learning_rate: Annotated[float, Rule("size of each step", 0.0, 1.0, above=True)] = 1e-4
    warmup: Annotated[float, Rule("share of the steps in which the rate rises", 0.0, 1.0)] = 0.05
    final_rate: Annotated[
        float, Rule("share of the rate left at the end of the cosine", 0.0, 1.0)
    ] = 0.1
    weight_decay: Annotated[float, Rule("AdamW's decay of the adapter's weights", 0.0, 10.0)] = 0.0
    clip: Annotated[
        float, Rule("longest gradient; longer ones are shortened", 0.0, 1e6, above=True)
    ] = 1.0
    grad_checkpoint: Annotated[bool, Rule("less memory for more time")] = False
    checkpoint_every: Annotated[
        int,
        Rule(
            "layers computed again to save memory: every one (1), or every second (2), which is "
            "sooner done",
            1,
            1000,
        ),
    ] = 1
    eval_every: Annotated[int | None, Rule("steps between validations", 1, 10_000_000)] = None
    eval_rows: Annotated[int, Rule("rows a validation inside the run", 1, 1_000_000)] = 64
    save_every: Annotated[int | None, Rule("steps between checkpoints", 1, 10_000_000)] = None
    sample_every: Annotated[int | None, Rule("steps between samples", 1, 10_000_000)] = None
    patience: Annotated[
        int | None, Rule("validations without improvement before it stops early", 1, 10_000)
    ] = None
    keep: Annotated[int, Rule("checkpoints kept beside the best", 1, 1000)] = 2
    seed: Annotated[int, Rule("same seed, same run", 0, 2**53)] = 0


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the same numbers are computed. `auto` measures on this machine and says what it took."""

    batching: Annotated[
        Literal["auto", "pack", "buckets", "rows"],
        Rule(
            "rows packed into one another's, rows of like length, "
            "or exactly as many as the batch size says"
        ),
    ] = "auto"
    loss: Annotated[
        Literal["auto", "chunked", "full"],
        Rule("the scores of every word: a few tokens at a time, or of all tokens at once"),
    ] = "auto"
    prefix_cache: Annotated[
        Literal["auto", "on", "off"],
        Rule("keep what the frozen layers make of each row, where only the last ones are adapted"),
    ] = "auto"
    compile: Annotated[Literal["auto", "on", "off"], Rule("hand each step to MLX's compiler")] = (
        "auto"
    )
    base: Annotated[
        Literal["auto", "packed", "plain"],
        Rule("quantized weights computed with as they are, or held as the floats they stand for"),
    ] = "auto"


class SampleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fixed prompts that are continued while training."""

    prompts: Annotated[
        tuple[str, ...], Rule("prompts; the data's own beginnings when none is given")
    ] = ()
    tokens: Annotated[int, Rule("tokens a sample", 1, 4096)] = 48


# names of `targets` that every model has
GROUPS = ("attention", "mlp", "all")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the outcome of a run."""

    model: ModelConfig
    data: DataConfig
    adapter: AdapterConfig = AdapterConfig()
    training: TrainingConfig = TrainingConfig()
    engine: EngineConfig = EngineConfig()
    samples: SampleConfig = SampleConfig()


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"training": {"epochs": 1.0, "learning_rate": 2e-4}},
    "balanced": {},
    "thorough": {"adapter": {"rank": 16}, "training": {"epochs": 5.0, "patience": 4}},
    "demo": {
        "model": {"bits": "4"},
        "data": {"max_length": 128},
        "adapter": {"rank": 16},
        "training": {"learning_rate": 4e-3, "steps": 120, "eval_every": 30, "sample_every": 60},
    },
}


def build_config(tree: dict[str, Any]) -> RunConfig:
    """A checked configuration from nested plain values, as read from TOML or gathered from options.

    Raises:
        UserError: `bad_option`, naming the field, its limits, and the nearest name for an unknown
        one.
    """
    check_names(tree)
    try:
        config = msgspec.convert(tree, RunConfig)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        reason = reason.replace("`", "").replace("Invalid enum value", "there is no")
        field = path.rstrip("`") or "configuration"
        raise _bad(field, reason, _wanted(field)) from error
    check_config(config)
    return config


def check_config(config: RunConfig) -> None:
    """Every number inside its limits, and the limits that concern two fields at once.

    Raises:
        UserError: `bad_option`.
    """
    for group in config.__struct_fields__:
        struct = getattr(config, group)
        for name, rule in rules(struct.__class__).items():
            check_limits(f"{group}.{name}", getattr(struct, name), rule)
    if not config.adapter.targets or not all(config.adapter.targets):
        raise _bad(
            "adapter.targets", "it names no layer", "use attention, mlp, all, or module names"
        )
    training = config.training
    if training.steps is not None and training.grad_accumulation > training.steps * 4096:
        raise _bad("training.grad_accumulation", "it is longer than the run", "lower it")
    if not config.model.source or not config.data.source:
        raise _bad("model.source or data.source", "it is empty", "name a model and a dataset")


@functools.cache
def rules(struct: Any) -> dict[str, Rule]:
    """The rule of every field of a configuration struct, in order."""
    hints = typing.get_type_hints(struct, include_extras=True)
    return {
        name: next(extra for extra in hint.__metadata__ if isinstance(extra, Rule))
        for name, hint in hints.items()
        if name in struct.__struct_fields__
    }


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes` laid over it, group by group."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in base.items()}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def check_limits(field: str, value: object, rule: Rule) -> None:
    """A number inside its rule's limits; anything that is no number passes.

    Raises:
        UserError: `bad_option`, with the limits in words.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = rule.low, rule.high
    too_low = low is not None and not (value > low if rule.above else value >= low)
    if not too_low and (high is None or value <= high):
        return
    floor = f"{'more than' if rule.above else 'at least'} {low:,g}"
    wanted = f"{floor} and at most {high:,g}" if high is not None else floor
    raise _bad(field, f"{value} is not possible ({rule.help})", f"choose a number of {wanted}")


def too_many_layers(wanted: int, there: int) -> UserError:
    """More layers asked for than the model has."""
    fix = f"choose at most {there}, or all"
    return _bad(f"--layers {wanted}", f"this model has {there} layers", fix)


def no_such_target(target: str, known: Iterable[str]) -> UserError:
    """A target that no linear layer of the model is called, with the names that would do."""
    names = sorted({key.rpartition(".")[2] for key in known})
    near = difflib.get_close_matches(target, [*GROUPS, *names], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    fix = f"{hint}This model has {', '.join([*GROUPS, *names])}"
    return _bad(f"--targets {target}", "no linear layer has this name", fix)


def _wanted(field: str) -> str:
    """What a field may hold, in words."""
    group, _, name = field.partition("[")[0].partition(".")
    if not name:
        return f"give {field} its settings; see --help"
    hint = typing.get_type_hints(typing.get_type_hints(RunConfig)[group])[name]
    parts = [hint, *typing.get_args(hint)]
    choices = [c for part in parts if typing.get_origin(part) is Literal for c in part.__args__]
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    words = [word for kind, word in kinds.items() if kind in parts and hint != tuple[str, ...]]
    *first, last = [*words, *choices] or ["a list of texts"]
    return f"choose {', '.join(first)}{' or ' if first else ''}{last}"


def check_names(tree: object) -> None:
    """Every group and setting has a name that exists, and every group is one.

    Raises:
        UserError: `bad_option`, with the nearest name.
    """
    _check_names(RunConfig, tree, "")


def _check_names(struct: type[msgspec.Struct], tree: object, path: str) -> None:
    if not isinstance(tree, dict):
        raise _bad(
            path.rstrip(".") or "configuration", "a group of settings is needed", "see --help"
        )
    hints = _hints(struct)
    for name, value in tree.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1)
            fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(hints)}"
            raise _bad(f"{path}{name}", "there is no such setting", fix)
        if isinstance(hints[name], type) and issubclass(hints[name], msgspec.Struct):
            _check_names(hints[name], value, f"{path}{name}.")


@functools.cache
def _hints(struct: Any) -> dict[str, Any]:
    """The types of a struct's fields: working them out takes longer than all the rest."""
    return typing.get_type_hints(struct)


def _bad(where: str, why: str, fix: str) -> UserError:
    return UserError("bad_option", where, why, fix)
