"""What every export of an adapter would weigh and take, told before anything is made. No mlx here.

Sizes follow from the tables of contents of base and adapter as the writers follow them. Times are
what was measured on two cores without a GPU, the check included; a Mac is faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.export import limits, sizes
from mlx_lora.export.formats import FORMATS, check_family
from mlx_lora.export.layout import Layout, plain_name
from mlx_lora.lora.folder import FACTS_KEY, weights_file
from mlx_lora.models.tensors import read_header, read_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.export.formats import Format
    from mlx_lora.trained import Trained

# below, packing saves a few megabytes and costs answers; from the other on, little is lost
_TINY, _LARGE = 50_000_000, 1_000_000_000
_GGUF = frozenset({"gguf", "ollama"})
# seconds to start and to load what is needed, and for a million numbers of the model
_START, _RATE = 2.5, 0.05
_RATES = {
    "mlx": 0.03, "peft": 0.03, "gguf-lora": 0.06, "f32": 0.1, "f16": 0.08, "bf16": 0.08,
    "q8_0": 0.08, "q6_k": 0.11, "q5_k_m": 0.12, "q5_0": 0.1, "q4_k_m": 0.16, "q4_0": 0.1,
    "6": 0.7, "4": 0.7, "auto": 1.6,
}  # fmt: skip
# for what is weighed by what goes through the layers
_WEIGHED = {"4": 2.0, "6": 2.0, "auto": 12.0}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A precision an export can be written in.

    Attributes:
        quant: as `--quant` takes it; empty where there is no choice.
        nbytes: of the files, in the end; the most it can be where `least` is not 0.
        least: the fewest bytes, where the precision is chosen by what is measured.
        scratch: bytes needed beside them while it is made.
        seconds: about how long it takes, its check included.
    """

    quant: str
    nbytes: int
    least: int = 0
    scratch: int
    seconds: float


class FormatPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A format for this model.

    Attributes:
        recommended: the precision to take, and why in a person's words.
        refusal: why it cannot be; empty where it can.
    """

    name: str
    choices: tuple[Choice, ...] = ()
    recommended: str = ""
    why: str = ""
    refusal: str = ""

    def choice(self, quant: str) -> Choice:
        """One precision."""
        return next(choice for choice in self.choices if choice.quant == quant)


class ExportPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be exported.

    Attributes:
        model: name of the base, never a path.
        parameters: numbers in it.
        step: of training the adapter is of, where it says so.
    """

    model: str
    parameters: int
    step: int | None
    formats: dict[str, FormatPlan]

    def instead(self) -> list[str]:
        """The formats that can be."""
        return [form.name for form in self.formats.values() if not form.refusal]


class Adapter(msgspec.Struct, frozen=True):
    """An adapter folder from outside: its bytes on disk, tensors by name with their shapes."""

    nbytes: int
    tensors: dict[str, tuple[int, ...]]
    step: int | None

    @property
    def modules(self) -> frozenset[str]:
        """What it changes, by plain names."""
        return frozenset(plain_name(name.rpartition(".")[0]) for name in self.tensors)


def plan_exports(trained: Trained, adapter: Path) -> ExportPlan:
    """Every format for a model and the adapter in a folder.

    Raises:
        UserError: whatever is wrong with model or adapter.
    """
    found = read_adapter_table(adapter)
    base = Layout(trained.model.source, trained.model.bits, found.modules)
    vocabulary = sizes.gguf_vocabulary(base)
    formats = {form.name: _plan(form, base, found, vocabulary) for form in FORMATS.values()}
    return ExportPlan(model=base.name, parameters=base.count(), step=found.step, formats=formats)


def read_adapter_table(folder: Path) -> Adapter:
    """What an adapter folder holds.

    Raises:
        UserError: `bad_adapter`, `damaged_model`.
    """
    path = weights_file(folder)
    tensors = {name: info.shape for name, info in read_header(path).items()}
    try:
        facts: dict[str, Any] = msgspec.json.decode(read_metadata(path).get(FACTS_KEY, "{}"))
        step = facts.get("step")
    except (msgspec.DecodeError, AttributeError):
        step = None
    files = [file for file in (path, folder / "adapter_config.json") if file.is_file()]
    return Adapter(sum(file.stat().st_size for file in files), tensors, step)


def recommend(name: str, parameters: int) -> tuple[str, str]:
    """The precision to take of a format, and why."""
    if name in _GGUF and parameters < _TINY:
        return "f16", "a model this small needs no packing, and nothing is lost"
    if name in _GGUF and parameters < _LARGE:
        return "q8_0", "below a billion parameters every bit counts, and the file is small anyway"
    if name in _GGUF:
        return "q4_k_m", "a quarter of the size; from a billion parameters on little is lost"
    if name == "mlx-fused":
        small = parameters < _LARGE
        return ("8", "next to nothing is lost") if small else ("4", "what mlx-lm's own models have")
    quants = FORMATS[name].quants
    return (quants[0], "as the base holds it") if quants else ("", "")


def _plan(form: Format, base: Layout, adapter: Adapter, vocabulary: int) -> FormatPlan:
    try:
        _check(form, base, adapter)
    except UserError as error:
        return FormatPlan(name=form.name, refusal=error.why)
    made = (_choice(form.name, quant, base, adapter, vocabulary) for quant in form.quants or ("",))
    choices = tuple(made)
    quant, why = recommend(form.name, base.count())
    return FormatPlan(name=form.name, choices=choices, recommended=quant, why=why)


def _check(form: Format, base: Layout, adapter: Adapter) -> None:
    """Raises: UserError, `cannot_export`."""
    check_family(form, base.family)
    if form.name in {*_GGUF, "gguf-lora"}:
        limits.check_gguf(base.family, base.settings)
    if form.name == "peft":
        shapes = {name.rpartition(".")[0]: shape for name, shape in adapter.tensors.items()}
        limits.check_peft(base.family, shapes)
    if form.name == "gguf-lora":
        dora = any(name.endswith(".m") for name in adapter.tensors)
        shared = base.tied and "lm_head" in adapter.modules
        limits.check_gguf_adapter(dora=dora, shared_output=shared)


def _choice(name: str, quant: str, base: Layout, adapter: Adapter, vocabulary: int) -> Choice:
    scratch, least = sizes.logits(base), 0
    match name:
        case "mlx":
            nbytes = adapter.nbytes
        case "peft":
            nbytes = sizes.peft(adapter.tensors)
        case "gguf-lora":
            nbytes = sizes.gguf_adapter(adapter.tensors, quant)
            scratch += sizes.gguf(base, sizes.check_base_kind(base), vocabulary)
        case "gguf" | "ollama":
            nbytes = sizes.gguf(base, quant, vocabulary)
        case "hf":
            nbytes = sizes.folder(base, quant)
        case _:
            nbytes = sizes.fused(base, quant if quant != "auto" else "16")
            least = sizes.fused(base, "4") if quant == "auto" else 0
            scratch += sizes.grams(base) if quant in _WEIGHED else 0
    seconds = _seconds(name, quant, base.count())
    return Choice(quant=quant, nbytes=nbytes, least=least, scratch=scratch, seconds=seconds)


def _seconds(name: str, quant: str, parameters: int) -> float:
    rate = _RATES.get(name) or _RATES.get(quant if name != "hf" else "", _RATE)
    return _START + _WEIGHED.get(quant, 0.0) + rate * parameters / 1e6
