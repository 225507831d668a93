"""Configuring: presets, other values, wrong ones, tight and too large, a run that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtWidgets import QApplication, QScrollArea

from app.models.probing import key_of
from app.pages.configure import ConfigurePage
from app.project import DataChoice, ModelChoice, build_run_config, recipe_of
from mlx_lora.demo import demo_settings
from mlx_lora.fit import Try
from mlx_lora.machine import Machine

from . import model as models

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application

LLAMA, GEMMA = (
    "mlx-community/Llama-3.2-1B-Instruct-4bit",
    "mlx-community/gemma-3-1b-it-4bit",
)
SMALL = Machine("Apple M1", 8 * 10**9, 5_300_000_000, True)


def facts_of(model: str, **changes: Any) -> dict[str, Any]:
    """What an inspection said of invented data."""
    return {
        "model": model, "name": "support_tickets", "formats": {"conversation": 4812},
        "training_rows": 4331, "validation_rows": 481, "training_targets": 512_300,
        "median_tokens": 143, "mean_tokens": 181.4, "longest_tokens": 512, "limit": 512,
        "cut_rows": 37,
    } | changes  # fmt: skip


def show(
    application: Application, source: str = LLAMA, title: str = "Llama 3.2 1B", **changes: Any
) -> ConfigurePage:
    """The page with a model that is on this machine, and data that was read."""
    models.hub_of(application, "Llama 3.2 1B", "Gemma 3 1B")
    rows = {"preset": "balanced", "settings": {}} | changes
    application.project.update(
        name="Support Tickets", model=ModelChoice(source, title, "4-bit"),
        data=DataChoice("support_tickets.jsonl", "support_tickets", facts_of(source)), **rows,
    )  # fmt: skip
    application.inspection.worker = _silent
    application.window.go("configure")
    models._settle(application)
    page = application.window.page
    assert isinstance(page, ConfigurePage)
    return page


def _silent(what: Any) -> Any:
    raise AssertionError(f"a scene starts no worker: {what}")


def _ready(application: Application) -> None:
    show(application)


def _custom(application: Application) -> None:
    settings = {
        "adapter": {"rank": 32}, "training": {"learning_rate": 2e-4, "epochs": 2.0},
        "data": {"max_length": 1024},
    }  # fmt: skip
    show(application, settings=settings)


def _advanced(application: Application) -> None:
    settings = {
        "samples": {"prompts": ["My invoice is wrong.", "Where is my parcel?"]},
        "training": {"patience": 3},
    }
    page = show(application, settings=settings)
    page.form.unfold()


def _computing(application: Application) -> None:
    """How it computes, switched by somebody curious; the end of the form."""
    settings = {
        "training": {"grad_checkpoint": True, "checkpoint_every": 2},
        "engine": {"batching": "rows", "loss": "chunked"},
    }
    _show_forms(show(application, settings=settings))


def _saving(application: Application) -> None:
    show(application, settings={"training": {"grad_checkpoint": True, "checkpoint_every": 2}})


def _frozen(application: Application) -> None:
    """Kept over the epochs, of layers of which none is frozen."""
    _show_forms(show(application, settings={"engine": {"prefix_cache": "on"}}))


def _show_forms(page: ConfigurePage) -> None:
    if page.form.advanced.isHidden():
        page.form.unfold()
    QApplication.processEvents()
    places = page.findChildren(QScrollArea)
    next(place for place in places if place.isAncestorOf(page.form)).ensureWidgetVisible(
        page.form.engine, 0, 12
    )


def _invalid(application: Application) -> None:
    settings = {"training": {"epochs": 0.0, "learning_rate": "fast"}, "adapter": {"rank": 5000}}
    show(application, settings=settings)


def _tight(application: Application) -> None:
    application.desk = msgspec.structs.replace(application.desk, machine=SMALL)
    show(application, settings={"training": {"batch_size": 8}})


def _measured(application: Application) -> None:
    """Probes ran: what is set fits, and more would."""
    page = show(application)
    config = build_run_config(application.project.value)
    key, limit = key_of(config), application.desk.memory_limit
    report = {"seconds": 0.41, "operations": 4e12, "documents": 4331, "kept": 0}
    report |= {"peak": 2_810_000_000, "runtime": 190_000_000}
    page.probing._tries[key] = [
        Try(batch_size=4 * n, need=n * 3 * 10**9, held=10**9, limit=limit, report=report)
        for n in (1, 2)
    ]
    page.probing._done.add(key)
    page._refresh()


def _measuring(application: Application) -> None:
    page = show(application)
    page.probing.doing = "Three steps at batch 8"
    page._refresh()


def _large(application: Application) -> None:
    application.desk = msgspec.structs.replace(application.desk, machine=SMALL)
    forms = {"training": {"batch_size": 8}, "engine": {"loss": "full"}}
    show(application, GEMMA, "Gemma 3 1B", settings=forms)


def _sample(application: Application) -> None:
    models.hub_of(application)
    facts = facts_of(
        "demo", training_rows=389, validation_rows=43, mean_tokens=127.2, longest_tokens=128,
        limit=128, formats={"document": 1},
    )  # fmt: skip
    application.project.update(
        name="Sample", model=ModelChoice("demo", "Storybook", "bundled"),
        data=DataChoice("demo", "Shakespeare sample", facts), preset="demo",
        settings=demo_settings(""),
    )  # fmt: skip
    application.inspection.worker = _silent
    application.window.go("configure")
    models._settle(application)


def _estimating(application: Application) -> None:
    page = show(application)
    page.foresight.base = None
    page._refresh()


def _checking(application: Application) -> None:
    page = show(application)
    page.show_loading("Checking model and data…")
    page._views.setCurrentWidget(page._waiting)


def _reading(application: Application) -> None:
    page = show(application)
    data = application.project.value.data
    assert data is not None
    application.project.update(data=msgspec.structs.replace(data, facts={}))
    page._refresh()


def _done(application: Application) -> None:
    page = show(application)
    project = application.project.value
    application.project.update(run="no-such-run", recipe=recipe_of(project))
    page._refresh()


def _lost(application: Application) -> None:
    page = show(application, "maker/gone-1b", "gone-1b")
    page.banner.more.hide()


SCENES: dict[str, Callable[[Application], None]] = {
    "configure-ready": _ready,
    "configure-custom": _custom,
    "configure-advanced": _advanced,
    "configure-computing": _computing,
    "configure-frozen": _frozen,
    "configure-saving": _saving,
    "configure-invalid": _invalid,
    "configure-tight": _tight,
    "configure-large": _large,
    "configure-measured": _measured,
    "configure-measuring": _measuring,
    "configure-sample": _sample,
    "configure-estimating": _estimating,
    "configure-checking": _checking,
    "configure-reading": _reading,
    "configure-done": _done,
    "configure-lost": _lost,
}
