"""Exports in a person's words: what each format is called and for, what came of a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.words import size

if TYPE_CHECKING:
    from mlx_lora.events import Failed
    from mlx_lora.export.plan import Choice, ExportPlan, FormatPlan

_MINUTE, _HOUR = 60, 3600


class Words(msgspec.Struct, frozen=True):
    """What a format is called, its icon, and what it is for."""

    title: str
    icon: str
    purpose: str


WORDS = {
    "gguf": Words("GGUF Model", "file", "One file for llama.cpp, LM Studio, Ollama and Jan."),
    "ollama": Words("Ollama Model", "ollama", "The same file with what “ollama create” asks for."),
    "mlx-fused": Words("MLX Model", "chip", "A folder for mlx-lm and LM Studio on a Mac."),
    "hf": Words("Hugging Face Model", "cube", "A folder for Transformers and vLLM."),
    "mlx": Words("MLX Adapter", "adapter", "The small file that was trained, for mlx-lm."),
    "peft": Words("PEFT Adapter", "adapter", "The same for PEFT, Transformers and vLLM."),
    "gguf-lora": Words("GGUF Adapter", "adapter", "The same for llama.cpp and its --lora."),
}
# what is shown together: (headline, formats)
GROUPS = (
    ("The whole model", ("gguf", "ollama", "mlx-fused", "hf")),
    ("Only the adapter, to be put on the same base", ("mlx", "peft", "gguf-lora")),
)
_QUANTS = {"auto": "Automatic", "16": "16 bit", "8": "8 bit", "6": "6 bit", "4": "4 bit"}
_MEANINGS = {
    "f32": "32 bits a weight: twice the size, nothing gained over the base",
    "f16": "16 bits a weight: as the model is, nothing lost",
    "bf16": "16 bits a weight, for models made in this kind",
    "16": "16 bits a weight: as the model is, nothing lost",
    "q8_0": "8 bits a weight: half the size, nearly nothing lost",
    "8": "8 bits a weight: half the size, nearly nothing lost",
    "q6_k": "6 bits a weight: little is lost", "6": "6 bits a weight: little is lost",
    "q5_k_m": "5 bits a weight: a little is lost", "q5_0": "5 bits a weight, of the older kind",
    "q4_k_m": "4 bits a weight: a quarter of the size, small models lose some of what they learnt",
    "q4_0": "4 bits a weight, of the older kind: smallest and coarsest",
    "4": "4 bits a weight: a quarter of the size, small models lose some of what they learnt",
    "auto": "Measures every width first and takes the smallest that keeps 98 % of the answers",
}  # fmt: skip


def quant_words(quant: str) -> str:
    """A precision as people write it."""
    return _QUANTS.get(quant, quant.upper())


def export_name(form: str, quant: str) -> str:
    """GGUF Model · Q8_0."""
    title = WORDS[form].title if form in WORDS else form
    return " · ".join(filter(None, (title, quant_words(quant))))


def meaning(quant: str) -> str:
    """What a precision does to the model."""
    return _MEANINGS.get(quant, "")


def choice_words(form: FormatPlan, choice: Choice, advised: str) -> str:
    """Q8_0 · 3.8 MB · advised."""
    parts = [quant_words(choice.quant)]
    parts.append(f"up to {size(choice.nbytes)}" if choice.least else size(choice.nbytes))
    if choice.quant == advised and len(form.choices) > 1:
        parts.append("advised")
    return " · ".join(parts)


def refusal(form: FormatPlan, plan: ExportPlan) -> str:
    """Why a format cannot be, and which can."""
    return f"Not for this model: {form.refusal.rstrip('.')}. {instead_of(plan.instead())}".strip()


def instead_of(forms: list[str]) -> str:
    """Instead: MLX Adapter or PEFT Adapter."""
    *others, last = [WORDS[name].title for name in forms[:3]] or [""]
    return f"Instead: {', '.join(others)} or {last}." if others else ""


def about(seconds: float) -> str:
    """About 8 s, about 4 min, about 1 h 20 min."""
    if seconds < _MINUTE:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / _MINUTE)
    if minutes < _MINUTE:
        return f"about {minutes} min"
    hours, rest = divmod(minutes, _MINUTE)
    return f"about {hours} h {rest} min"


def percent(share: float) -> str:
    """98.7 %; never rounded up to all of it."""
    tenths = int(share * 1000) / 10
    return "100 %" if share >= 1 else f"{tenths:.1f} %"


class Checked(msgspec.Struct, frozen=True):
    """What came of the check of an export.

    Attributes:
        pill: word, tone and icon.
        figures: one line; empty where nothing was measured.
        note: what a person should know beside it.
    """

    pill: tuple[str, str, str]
    figures: str
    note: str


def checked(report: dict[str, Any]) -> Checked:
    """The verdict of a finished export."""
    by, found = report.get("by", "nobody"), report.get("difference")
    word = {"llama.cpp": "Ran in llama.cpp", "re-read": "Read back and run"}.get(by)
    if word is None:
        return Checked(("Not checked", "warn", "warn"), "", "")
    if by == "re-read" and found is None:
        word = "Read back"
    figures = ""
    if found:
        figures = f"Same next token {percent(found['top1'])} · mean KL {found['kl']:.1g}"
    notes = [_drift(found)] if found else []
    if report.get("why"):
        notes.append(f"It was not run in llama.cpp: {report['why'].rstrip('.')}.")
    if found and not report.get("own_rows"):
        notes.append("Judged on bundled texts, the run's own rows are not at hand.")
    return Checked((word, "ok", "check"), figures, " ".join(notes))


def _drift(found: dict[str, Any]) -> str:
    """What the figures mean."""
    same, kl = found["top1"], found["kl"]
    if same >= 0.995 and kl <= 1e-3:  # noqa: PLR2004  (as verdict.py says it)
        return "Answers as in the app."
    if same >= 0.95:  # noqa: PLR2004
        return "Nearly as in the app: the coarser numbers change a word now and then."
    return "Coarser than in the app: a finer precision keeps more of what was learnt."


def failure_words(failed: Failed, forms: list[str]) -> str:
    """Why an export is not there, and what to do; `forms` are those that can be."""
    why = f"{_begun(failed.why)}."
    match failed.code:
        case "broken_export":
            return f"It did not pass its check and was removed. {why}"
        case "cannot_export":
            return f"{why} {instead_of(forms)}".strip()
        case "disk_full" | "no_permission" | "exists" | "storage" | "busy":
            return f"{why} {_begun(failed.fix)}."
    return why


def _begun(text: str) -> str:
    """As a sentence, without its end."""
    return text[:1].upper() + text[1:].rstrip(".")
