"""Export in every state, with an invented model and invented verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.jobs import Job
from app.models.exports import Found
from app.models.makings import Making
from app.problems import Problem
from app.project import DataChoice, ModelChoice, recipe_of
from mlx_lora import events, jobs
from mlx_lora.export.formats import FORMATS
from mlx_lora.export.plan import Choice, ExportPlan, FormatPlan, recommend
from mlx_lora.runs import Run, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application
    from app.pages.export import ExportPage

PARAMETERS = 4_020_000_000
_BITS = {
    "f32": 32.0, "f16": 16.0, "bf16": 16.0, "16": 16.0, "q8_0": 8.5, "8": 8.5, "q6_k": 6.6,
    "6": 6.5, "q5_k_m": 5.7, "q5_0": 5.6, "q4_k_m": 4.9, "q4_0": 4.6, "4": 4.5, "auto": 16.0,
}  # fmt: skip
_SMALL = {"mlx": 66_000_000, "peft": 66_300_000, "gguf-lora": 66_100_000}
_FREE = 212_000_000_000


def plan(refused: str = "") -> ExportPlan:
    """What can be made of a 4 B model; a family GGUF has no place for where that is named."""
    formats = {}
    for name, form in FORMATS.items():
        choices = tuple(
            Choice(
                quant=quant, scratch=40_000_000, seconds=95.0,
                nbytes=_SMALL.get(name) or int(PARAMETERS * _BITS[quant] / 8),
            )
            for quant in form.quants or ("",)
        )  # fmt: skip
        quant, why = recommend(name, PARAMETERS)
        formats[name] = FormatPlan(name=name, choices=choices, recommended=quant, why=why)
        if refused and name in {"gguf", "ollama", "gguf-lora"}:
            formats[name] = FormatPlan(name=name, refusal=refused)
    return ExportPlan(model="Qwen3-4B", parameters=PARAMETERS, step=4300, formats=formats)


def report(form: str, quant: str, top1: float, kl: float, by: str = "llama.cpp") -> dict[str, Any]:
    """What the worker says of a finished export."""
    name = f"Qwen3-4B-{quant}.gguf" if "gguf" in form else "model.safetensors"
    return {
        "format": form, "quant": quant, "by": by, "why": "", "own_rows": True,
        "files": {name: 2_462_000_000 if quant == "q4_k_m" else 66_100_000},
        "difference": {"top1": top1, "kl": kl},
    }  # fmt: skip


def _trained(application: Application, **state: Any) -> ExportPage:
    """A project with a finished run, on the page, its plan read."""
    folder = application.runs.root / "runs" / "support-tickets"
    (folder / "adapter").mkdir(parents=True)
    facts = {"training_rows": 4331, "validation_rows": 481, "model": "Qwen/Qwen3-4B"}
    application.settings.update(exports_folder="~/Models")
    application.project.update(
        name="support-tickets",
        model=ModelChoice("Qwen/Qwen3-4B", "Qwen3 4B Instruct", "4-bit"),
        data=DataChoice("rows.jsonl", "support_tickets", facts),
    )
    progress = application.progress
    progress.run, progress.loading = Run(folder), False
    progress.state = RunState(
        status="finished", step=4332, steps=4332, best_step=4300,
        last_validation=events.Validation(step=4332, loss=1.214, accuracy=0.7, rows=64), **state,
    )  # fmt: skip
    page: Any = application.window.page_of("export")
    page.exports.look = lambda: None
    application.project.update(run=folder.name, recipe=recipe_of(application.project.value))
    application.window.go("export")
    return page


def _planned(application: Application, **state: Any) -> ExportPage:
    page = _trained(application, **state)
    page.exports.show(Found(plan(), None, _FREE))
    return page


def empty(application: Application) -> None:
    """Nothing was trained."""
    application.window.go("export")


def loading(application: Application) -> None:
    """The plan is being read, for longer than a moment."""
    page = _trained(application)
    page._sign.timeout.emit()
    page._offer.timeout.emit()


def unreadable(application: Application) -> None:
    """The base is gone."""
    page = _trained(application)
    page.exports.problem = Problem(
        "The model is not there any more", "Bring the folder back, or choose the model again.",
        details="no_such_model Qwen/Qwen3-4B",
    )  # fmt: skip
    page.exports.changed.emit()


def ready(application: Application) -> None:
    """One click from a file."""
    _planned(application)


def several(application: Application) -> None:
    """Three formats, one of them measured, one made before."""
    page = _planned(
        application,
        exports=[report("gguf", "q8_0", 0.998, 2e-4)],
        fuse_loss={
            "chosen": "6",
            "step": 4300,
            "lines": [
                {"bits": bits, "difference": {"top1": top1, "kl": 0.01}, "nbytes": 1}
                for bits, top1 in ((16, 1.0), (8, 0.994), (6, 0.981), (4, 0.942))
            ],
        },
    )
    for form in ("mlx-fused", "peft"):
        page.exports.choose(form, wanted=True)


def refused(application: Application) -> None:
    """A family GGUF has no place for."""
    page = _trained(application)
    page.exports.show(Found(plan("GGUF is not written for the family gemma3n"), None, _FREE))


def no_room(application: Application) -> None:
    """The disk is nearly full."""
    page = _trained(application)
    page.exports.show(Found(plan(), None, 1_200_000_000))


def running(application: Application) -> None:
    """One is written, one waits."""
    page = _planned(application)
    page.exports.choose("peft", wanted=True)
    page.exports.makings.show([
        _making(
            "gguf", "q4_k_m", doing="running", phase=events.Phase("writing", 161, 398),
            heard=("planning", "base", "adapted"), seconds=150.0,
        ),
        _making("peft", seconds=20.0),
    ])  # fmt: skip


def queued(application: Application) -> None:
    """Training comes first."""
    page = _planned(application)
    work = Job(jobs.TrainJob(run="", root=""), title="20261107-113000-gemma-270m-recipes")
    work.state = "running"
    page.exports.makings.show([_making("gguf", "q4_k_m", seconds=150.0)])
    application.queue.jobs.append(work)
    application.queue.changed.emit()


def measuring(application: Application) -> None:
    """What fewer bits cost is being measured."""
    page = _planned(application)
    page.exports.choose("mlx-fused", wanted=True)
    page.measurement.job = Job(jobs.LlamaJob(model=""))
    page.measurement.doing = "Measuring 8 bit"
    page.measurement.changed.emit()


def done(application: Application) -> None:
    """Checked; another one was made before."""
    told = report("gguf", "q4_k_m", 0.962, 9e-3)
    page = _planned(application, exports=[report("peft", "", 1.0, 0.0, "re-read"), told])
    made = _making("gguf", "q4_k_m", doing="done", report=told)
    page.exports.show(Found(plan(), None, _FREE, {made.out: told}))
    page.exports.makings.show([made])


def partly(application: Application) -> None:
    """One is there, one did not pass its check, one was stopped."""
    told = report("peft", "", 1.0, 0.0, "re-read")
    page = _planned(application, exports=[told])
    why = "it does not answer like the model in the app (31.0 % the same next token)"
    failed = events.Failed(
        code="broken_export", where="model.gguf", why=why, fix="use another precision"
    )
    made = _making("peft", doing="done", report=told)
    page.exports.show(Found(plan(), None, _FREE, {made.out: told}))
    page.exports.makings.show([
        made, _making("gguf", "q4_0", doing="failed", failed=failed),
        _making("hf", "16", doing="stopped"),
    ])  # fmt: skip


def _making(form: str, quant: str = "", **more: Any) -> Making:
    out = Path("~/Models/support-tickets") / "-".join(filter(None, (form, quant)))
    return Making(run="support-tickets", form=form, quant=quant, out=out, **more)


SCENES: dict[str, Callable[[Application], None]] = {
    "export-empty": empty,
    "export-loading": loading,
    "export-error": unreadable,
    "export-ready": ready,
    "export-several": several,
    "export-refused": refused,
    "export-no-room": no_room,
    "export-running": running,
    "export-queued": queued,
    "export-measuring": measuring,
    "export-done": done,
    "export-partly": partly,
}
