"""Models from Hugging Face: searched, looked at, on their way, closed, damaged; nobody is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.pages.model import ModelPage
from mlx_lora import events
from mlx_lora.machine import System
from mlx_lora.models.catalog import find_entry
from mlx_lora.models.offline import switch_offline

from .dataset import SilentJob
from .model import _page, _settle, put_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application
    from app.jobs import Job
    from mlx_lora.models.shape import Shape

GEMMA, QWEN, LLAMA = (
    "mlx-community/gemma-3-1b-it-4bit",
    "mlx-community/Qwen3-1.7B-4bit",
    "mlx-community/Llama-3.2-1B-Instruct-4bit",
)
CLOSED = "mistralai/Ministral-3B-Instruct"
# what a search tells: repository, downloads, parameters, licence, gated, mlx
_FOUND = (
    ("mlx-community/Ministral-3B-Instruct-4bit", 48_211, 0, "apache-2.0", False, True),
    (CLOSED, 391_020, 3_429_000_000, "other", True, False),
    ("mlx-community/Mistral-Small-24B-Instruct-4bit", 31_904, 0, "apache-2.0", False, True),
    ("someone/ministral-roleplay-7b", 2_310, 7_248_000_000, "cc-by-nc-4.0", False, False),
)
_NAMES = ("repository", "downloads", "parameters", "licence", "gated", "mlx")


def say(job: Any, *said: events.Event) -> None:
    """Let a worker say something, and end where it would."""
    for event in said:
        job.said.emit(event)
        if isinstance(event, events.Finished | events.Failed):
            job.state = "ended"
            job.ended.emit(event)


def silence(application: Application, page: ModelPage) -> None:
    """Nobody answers but the scene."""
    page.hub.searching.worker = page.hub.glance.worker = SilentJob
    page.care.errand.worker = page.care.keys.worker = SilentJob
    application.downloads.worker = application.downloads.erasing.worker = SilentJob


def listing() -> dict[str, Any]:
    """A worker's report `search`."""
    return {"models": [dict(zip(_NAMES, one, strict=True)) for one in _FOUND]}


def remote(repository: str = CLOSED, shape: Shape | None = None, **changes: Any) -> dict[str, Any]:
    """A worker's report `remote`."""
    entry = find_entry("mlx-community/Qwen3-4B-4bit")
    assert entry is not None
    known = next((one for one in _FOUND if one[0] == repository), _FOUND[1])
    return {
        **dict(zip(_NAMES, known, strict=True)), "repository": repository, "commit": "c" * 40,
        "size": 6_862_000_000, "missing": 6_862_000_000, "weights": 6_858_000_000, "bits": 16,
        "numbers": 3_429_000_000, "page": f"https://huggingface.co/{repository}", "twin": "",
        "shape": msgspec.to_builtins(shape or entry.shape),
    } | changes  # fmt: skip


def answer(job: Job | None, kind: str, data: dict[str, Any]) -> None:
    """A worker's whole answer."""
    say(job, events.Report(kind=kind, data=data), events.Finished(reason="done"))


def open_page(application: Application, *titles: str) -> ModelPage:
    """The page with these models on the machine."""
    page = _page(application, *(titles or ("Llama 3.2 1B",)))
    silence(application, page)
    _settle(application)
    return page


def _searching(application: Application) -> None:
    page = open_page(application)
    page.search.field.setText("ministral")
    page.search_hub()
    page._views.setCurrentWidget(page._waiting)
    page._waiting.offer_cancel()


def results(application: Application) -> ModelPage:
    """What a search found, and one of them looked at."""
    page = open_page(application)
    page.search.field.setText("ministral")
    page.search_hub()
    answer(page.hub.searching.job, "search", listing())
    page.choose(CLOSED)
    answer(page.hub.glance.job, "remote", remote(twin="mlx-community/Ministral-3B-Instruct-4bit"))
    return page


def _failed(application: Application) -> None:
    page = open_page(application)
    page.search_hub()
    why = "the hub cannot be reached (no connection)"
    fix = "check the connection and try again"
    say(page.hub.searching.job, events.Failed(code="network", where="search", why=why, fix=fix))


def start(application: Application, source: str, done: int, total: int, **more: Any) -> SilentJob:
    """A download that has come so far."""
    page = application.window.page
    assert isinstance(page, ModelPage)
    page.choose(source)
    page.act()
    job: Any = application.downloads.all[source].job
    if job is not None:
        say(job, events.Phase("downloading", done, total, **more))
    return job


def _downloading(application: Application) -> None:
    page = open_page(application, "Llama 3.2 1B", "Qwen3 4B")
    page.search.choose("recommended")
    start(application, QWEN, 387_000_000, 968_000_000)
    application.downloads.pause(QWEN)
    say(application.downloads.all[QWEN].job, events.Finished(reason="stopped"))
    start(application, GEMMA, 338_000_000, 563_000_000, rate=11.8e6, eta=19.0)
    application.downloads.changed.emit()


def _paused(application: Application) -> None:
    open_page(application)
    start(application, QWEN, 387_000_000, 968_000_000)
    application.downloads.pause(QWEN)
    say(application.downloads.all[QWEN].job, events.Finished(reason="stopped"))


def _full(application: Application) -> None:
    open_page(application)
    why = "there are 210 MB free on this disk, and 752 MB are needed"
    job = start(application, QWEN, 0, 968_000_000)
    say(job, events.Failed(code="disk_full", where="hub", why=why, fix="free some space"))


def _gated(application: Application) -> None:
    page = results(application)
    page.act()
    job = application.downloads.all[CLOSED].job
    why = "its owner asks for consent"
    say(job, events.Failed(code="no_access", where=CLOSED, why=why, fix="accept its terms"))
    answer(page.care.keys.job, "token", {"act": "show", "source": "", "gone": False})


def _broken(application: Application) -> None:
    """A model of the cache with a file cut short, which was looked through."""
    page = open_page(application, "Llama 3.2 1B", "Qwen3 0.6B")
    hub = application.runs.root / "hub"
    folder = hub / f"models--{LLAMA.replace('/', '--')}" / "snapshots" / "abc"
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(300_000_000)
    page.models.rescan()
    _settle(application)
    page.search.choose("here")
    page.choose(LLAMA)
    page.banner.more.hide()  # Details names this machine's folders


def _checking(application: Application) -> None:
    page = open_page(application)
    page.choose(LLAMA)
    _settle(application)
    page.rail.wanted.emit("verify")
    job = application.downloads.all[LLAMA].job
    say(job, events.Phase("checking", 412_000_000, 695_000_000))


def _offline(application: Application) -> None:
    page = open_page(application)
    switch_offline(application.runs.root, on=True)
    page.choose(GEMMA)
    page.search.choose("all")


def _delete(application: Application) -> None:
    page = open_page(application)
    page.choose(LLAMA)
    _settle(application)
    found = page.care.holdings[LLAMA]
    runs = ("Support Tickets", "Support Tickets 2")
    page.care.holdings[LLAMA] = msgspec.structs.replace(found, runs=runs)
    page.rail.wanted.emit("delete")


def _full_precision(application: Application) -> ModelPage:
    entry = find_entry("mlx-community/SmolLM2-360M-Instruct")
    assert entry is not None
    folder = application.runs.root / "shelf"
    source = str(put_model(folder / "letters-360m", entry.shape, 16))
    application.settings.update(models_folder=str(folder))
    page = open_page(application)
    page.models.rescan()
    _settle(application)
    page.choose(next(o.source for o in page.models.offers if o.source.endswith("letters-360m")))
    _settle(application)
    assert source
    return page


def _pack(application: Application) -> None:
    _full_precision(application).rail.wanted.emit("pack")


def _packing(application: Application) -> None:
    page = _full_precision(application)
    packing = page.care.packing
    packing.source, packing.bits, packing.job = page.looked, 4, SilentJob(None)  # type: ignore[arg-type]
    packing.job.start()
    packing.phase = events.Phase("packing", 310_000_000, 724_000_000)
    packing.changed.emit()


def _intel(application: Application) -> None:
    _page(application)
    application._check(System("darwin", "x86_64", "13.6"))


SCENES: dict[str, Callable[[Application], object]] = {
    "model-searching": _searching,
    "model-results": results,
    "model-failed": _failed,
    "model-downloading": _downloading,
    "model-paused": _paused,
    "model-disk-full": _full,
    "model-gated": _gated,
    "model-broken": _broken,
    "model-checking": _checking,
    "model-offline": _offline,
    "model-delete": _delete,
    "model-pack": _pack,
    "model-packing": _packing,
    "model-intel": _intel,
}
