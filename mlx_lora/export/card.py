"""README.md of an export: what it is, on what it rests, how it was made and checked, how to run it.

No path, no user name and no row of anybody's data is in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_lora import events
from mlx_lora.errors import UserError
from mlx_lora.export.commands import run_command
from mlx_lora.export.formats import FORMATS
from mlx_lora.runs import Run

if TYPE_CHECKING:
    from mlx_lora.export.source import Source
    from mlx_lora.export.verdict import Verdict
    from mlx_lora.jobs import ExportJob

CARD = "README.md"
_LICENCE = re.compile(r"^licen[cs]e:\s*([\w.+-]+)\s*$", re.MULTILINE | re.IGNORECASE)


def write_card(folder: Path, job: ExportJob, source: Source, quant: str, found: Verdict) -> None:
    """Put README.md into an export."""
    licence = base_licence(source.folder)
    files = sorted(path.name for path in folder.iterdir())
    form = FORMATS[job.format]
    parts = [
        _front_matter(source, licence),
        f"# {source.name}, adapted",
        f"{form.what[0].upper()}{form.what[1:]}, for {form.tools}"
        f"{f' ({quant})' if quant else ''}. Made with Understudy.",
        f"- Base: {source.name}\n- Licence of the base: {licence or 'see the base model'}"
        f"\n- Adapter: {_adapter(source)}{_template(source)}",
        *_training(job),
        f"## Checked\n\n{found.words()}",
        f"## How to run it\n\n```\n{run_command(job.format, source.name, files)}\n```",
    ]
    (folder / CARD).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def base_licence(folder: Path) -> str:
    """The licence a base model's own card names; empty where it names none."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")[:4000])
    return found[1] if found else ""


def _front_matter(source: Source, licence: str) -> str:
    lines = ["---", f"base_model: {source.name}", "tags: [lora, understudy]"]
    return "\n".join([*lines, *([f"license: {licence}"] if licence else []), "---"])


def _adapter(source: Source) -> str:
    shape = source.shape
    if shape is None:
        return "none"
    kind = "DoRA" if any(d.magnitude is not None for d in source.deltas.values()) else "LoRA"
    parts = sorted({name.rpartition(".")[2] for name in source.deltas})
    alpha = f"{shape.scale * shape.rank:g}"
    return (
        f"{kind}, rank {shape.rank}, alpha {alpha}, last {shape.layers} layers, {', '.join(parts)}"
    )


def _template(source: Source) -> str:
    """The built-in chat template it was trained with: asked in another form it answers worse."""
    if source.facts is None or not source.facts.template_name:
        return ""
    return (
        f"\n- Chat template: `{source.facts.template_name}`, which is none of the base's own; "
        "ask it in this form"
    )


def _training(job: ExportJob) -> list[str]:
    """How it was trained, as far as the run says."""
    if job.run is None:
        return []
    run = Run(Path(job.run))
    try:
        config = run.record().config
    except UserError:
        return []
    setup: dict[str, Any] = {}
    result: dict[str, Any] = {}
    for event in run.events():
        if isinstance(event, events.Report) and event.kind == "setup":
            setup = event.data
        elif isinstance(event, events.Finished):
            result = event.result
    training = config.training
    data = setup.get("data", {})
    lines = [
        f"- Steps: {result.get('step', 'unfinished')}, batches of {training.batch_size}"
        f" x {training.grad_accumulation}, learning rate {training.learning_rate:g}",
        f"- Base precision while training: {config.model.bits}",
    ]
    if data:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in data.get("formats", {}).items())
        lines.append(
            f"- Data: {kinds}; {data['training_rows']:,} rows learnt from, "
            f"{data['validation_rows']:,} held out, at most {config.data.max_length} tokens each"
        )
    if result.get("base") and result.get("adapted"):
        lines.append(
            f"- Held-out loss: {result['base']['loss']:.3f} before, "
            f"{result['adapted']['loss']:.3f} after"
        )
    return ["## Training\n\n" + "\n".join(lines)]
