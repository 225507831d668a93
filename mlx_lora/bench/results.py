"""What is measured and what came of it: plain values, for the table and for JSON. No mlx here."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlx_lora.bench.pairs import Spread, spread

Kind = Literal["train", "generate", "load", "export"]
KINDS: tuple[Kind, ...] = ("train", "generate", "load", "export")
# mlx-lm's own sort of rows by length compares the same number of every row (peer.py)
OURS, SHIPPED, REPAIRED = "understudy", "mlx-lm as shipped", "mlx-lm, sort repaired"
PACKED = "mlx-lm, weights packed (Linux only)"


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides are given to do.

    Attributes:
        model: folder of the model.
        name: what it is called; never a path.
        data: DATA, as the person named it.
        root: the data root, where downloaded data lies.
        scratch: a folder for rows, runs and exports that is thrown away.
        shape: `alpaca` cuts running text to the lengths of instruction data, `blocks` leaves it in
            full rows of `max_length`. Data that is rows already stays as it is.
        rows: at most so many; a multiple of the batch size is taken.
        train_on: which tokens are learnt, on both sides.
        new_tokens: tokens of an answer.
        engine: our own settings of `[engine]`, as in a configuration.
    """

    model: str
    name: str
    data: str = "demo"
    root: str = ""
    scratch: str = ""
    shape: Literal["alpaca", "blocks"] = "alpaca"
    rows: int = 48
    batch_size: int = 4
    max_length: int = 512
    epochs: float = 1.0
    rank: int = 8
    layers: int | Literal["all"] = "all"
    learning_rate: float = 1e-4
    train_on: Literal["completions", "all"] = "all"
    new_tokens: int = 128
    seed: int = 0
    engine: dict[str, Any] = {}


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The work as our own data step made it of DATA; mlx-lm is given exactly this.

    Attributes:
        tokens_file: JSON, a list of (ids, index of the first learnt id).
        targets: learnt tokens an epoch; what both sides' speed is counted in.
        mean, longest: tokens of a row.
        cut: the rows were cut from running text.
        keys: names of the adapted modules inside a layer; the last `adapted_layers` have them.
        form: how the base's weights are held, as `LoadedModel` says it.
        metal: the work is done by the GPU.
    """

    tokens_file: str
    rows: int
    targets: int
    mean: float
    longest: int
    cut: bool
    prompt: list[int]
    parameters: int
    trainable: int
    keys: list[str]
    adapted_layers: int
    scale: float
    form: str
    context: int | None
    metal: bool
    environment: dict[str, str]

    @property
    def packed(self) -> bool:
        """The model's files hold packed weights."""
        return "-bit" in self.form


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one side, oldest first.

    Attributes:
        values: in the kind's unit.
        facts: what else was seen: peak memory (bytes), steps, ...
    """

    name: str
    values: list[float]
    facts: dict[str, Any] = {}

    @property
    def spread(self) -> Spread:
        """Their middle and ends."""
        return spread(self.values)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work, measured on one side or several.

    Attributes:
        what: what exactly was compared, in words.
        unit: `tokens/s`, more of which is better, or `s`, less of which is.
        sides: ours first.
    """

    kind: str
    what: str
    unit: Literal["tokens/s", "s"]
    sides: list[Side]

    def is_other(self, side: Side) -> bool:
        """Whether it is somebody else's, so that we can be faster than it."""
        return side is not self.sides[0] and not side.name.startswith(OURS)

    def ratios(self, other: Side) -> list[float]:
        """How many times faster we are than `other`, round by round."""
        pairs = zip(self.sides[0].values, other.values, strict=True)
        faster = self.unit == "tokens/s"
        return [own / its if faster else its / own for own, its in pairs]

    def plain(self) -> dict[str, Any]:
        """As JSON has it, medians and spreads worked out."""
        sides = []
        for side in self.sides:
            entry = msgspec.to_builtins(side) | {"spread": msgspec.to_builtins(side.spread)}
            if self.is_other(side):
                pairs = self.ratios(side)
                entry |= {"ratios": pairs, "ratio": msgspec.to_builtins(spread(pairs))}
            sides.append(entry)
        return {"kind": self.kind, "what": self.what, "unit": self.unit, "sides": sides}
