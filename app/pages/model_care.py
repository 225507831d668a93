"""What is done with one model: brought, checked, mended, packed, deleted; each after a press."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.models.errand import Errand
from app.models.packing import WIDTHS, Packing, packed_bytes
from app.pages.access import attend, open_address
from app.widgets.gate_sheet import GateSheet
from app.widgets.pack_sheet import PackSheet
from app.widgets.sheet import ask
from app.words import MACHINE, plural, size
from mlx_lora import jobs
from mlx_lora.models.catalog import open_twin
from mlx_lora.models.holdings import find_holding

if TYPE_CHECKING:
    from PySide6.QtWidgets import QMessageBox, QWidget

    from app.desk import Desk
    from app.models.downloads import Download
    from app.models.hub_shelf import HubShelf
    from app.models.model_list import ModelList
    from app.models.offers import Offer
    from mlx_lora.models.holdings import Holding

_NAMED = 3


class ModelCare(QObject):
    """Does it; `changed` when there is something else to say of a model.

    Attributes:
        refused: something did not work; carries a `Failed`.
        deleted: a model is gone; carries its source and the bytes that are free.
        arrived: one is whole now, and the project that asked for it still wants it.
        packed: a copy was made; carries its source and what it came to, in words.
        twin: this one is wanted in place of one that asks for consent.
        current: the source of the model the page tells of.
        packing: a smaller copy on its way.
        holdings: what is known of models on this machine's disk.
        checked: sources whose files were found right.
        gate, sheet: what asks at the moment.
    """

    changed = Signal()
    refused = Signal(object)
    deleted = Signal(str, float)
    arrived = Signal(str)
    packed = Signal(str, str)
    twin = Signal(str)

    def __init__(self, page: QWidget, desk: Desk, models: ModelList, hub: HubShelf) -> None:
        super().__init__(page)
        self._page, self._desk, self._models, self._hub = page, desk, models, hub
        self.current = ""
        self.packing = Packing(desk)
        self.errand, self.keys = Errand(), Errand()
        self.holdings: dict[str, Holding] = {}
        self.checked: set[str] = set()
        self.gate: GateSheet | None = None
        self.sheet: QMessageBox | PackSheet | None = None
        self.packing.changed.connect(self.changed)
        self.packing.failed.connect(self.refused)
        desk.downloads.changed.connect(self.changed)
        self.packing.done.connect(self._take_packed)
        desk.downloads.verified.connect(self._praise)
        desk.downloads.arrived.connect(self._take_arrived)
        desk.downloads.refused.connect(self._take_refused)

    def do(self, key: str, offer: Offer) -> bool:
        """What a button of this key does for a model; whether there is such a one."""
        downloads, source = self._desk.downloads, offer.source
        acts = {
            "download": lambda: self.download(offer),
            "pause": lambda: downloads.pause(source),
            "cancel": lambda: self._ask_to_cancel(offer),
            "forget": lambda: downloads.forget(source),
            "verify": lambda: self._look_through(offer, "verify"),
            "repair": lambda: self._look_through(offer, "repair"),
            "look": lambda: self._hub.look(source),
            "page": lambda: open_address(self._hub.page_of(source)),
            "token": lambda: self.ask_for_access(offer),
            "delete": lambda: self._ask_to_delete(offer),
            "pack": lambda: self._ask_to_pack(offer),
            "stop_pack": self.packing.stop,
        }
        if key not in acts:
            return False
        acts[key]()
        return True

    def download(self, offer: Offer) -> None:
        """Bring a model, or go on with it, for the project as it is now."""
        project = self._desk.chosen
        before = project.model.source if project.model else ""
        self._desk.downloads.start(
            offer.source, offer.title, total=offer.size,
            wanted=(str(self._desk.project.file), before),
        )  # fmt: skip

    def read(self, source: str) -> None:
        """What a model takes of the disk, where it is from, which runs need it."""
        folder = self._desk.settings.value.models_folder
        folders, store = ((folder,) if folder else ()), self._desk.runs
        if source != "demo":
            self._desk.tasks.run(
                lambda: find_holding(source, store, folders),
                lambda found: self._take_holding(source, found),
                lambda _: self.holdings.pop(source, None),
            )

    def ask_for_access(self, offer: Offer) -> None:
        """Its terms and a token, in a sheet of two steps."""
        if self.gate is not None:
            return
        remote = self._hub.models.get(offer.source)
        twin = (remote.twin if remote else "") or open_twin(offer.source)
        gate = self.gate = GateSheet(
            self._page, offer.title, twin=twin,
            why="Its owner opens it to people who accept its terms. A token tells Hugging Face "
            "that it is you.",
        )  # fmt: skip
        gate.page_wanted.connect(lambda: open_address(self._hub.page_of(offer.source)))
        gate.twin_wanted.connect(lambda: self._take_twin(offer, twin))
        gate.again.connect(lambda: self._try_again(offer))
        attend(gate, self.keys, lambda: self._try_again(offer))
        gate.finished.connect(lambda _: self._close_gate())
        gate.open()

    def _close_gate(self) -> None:
        self.gate = None
        self.keys.cancel()

    def _try_again(self, offer: Offer) -> None:
        known = self._desk.downloads.all.get(offer.source)
        if known is None and offer.source in self._hub.unknown:
            self._hub.look(offer.source)
        else:
            self.download(offer)

    def _take_twin(self, offer: Offer, twin: str) -> None:
        self._desk.downloads.forget(offer.source)
        self.twin.emit(twin)

    def _take_holding(self, source: str, found: Holding) -> None:
        if self.holdings.get(source) != found:
            self.holdings[source] = found
            self.changed.emit()

    def _take_arrived(self, made: Download) -> None:
        """It is the project's now, where that has chosen no other meanwhile."""
        project = self._desk.chosen
        now = (str(self._desk.project.file), project.model.source if project.model else "")
        mended = made.what == "repair" and now[1] in {"", made.source}
        wanted = made.wanted == now or mended
        self.read(made.source)
        self._models.admit(made.source, lambda: self.arrived.emit(made.source) if wanted else None)

    def _take_refused(self, made: Download) -> None:
        closed = made.failed is not None and made.failed.code == "no_access"
        offer = self._models.offer(made.source) or self._hub.offer(made.source)
        if closed and offer is not None and made.source == self.current and self._page.isVisible():
            self.ask_for_access(offer)

    def _take_packed(self, source: str) -> None:
        report = self.packing.report
        words = f"{size(report['original_bytes'])} became {size(report['bytes'])}."
        if report["words"]:
            words += f" {report['words'][:1].upper()}{report['words'][1:]}."
        self._models.admit(source, lambda: self.packed.emit(source, words))

    def _praise(self, made: Download) -> None:
        self.checked.add(made.source)
        self.changed.emit()

    def _look_through(self, offer: Offer, what: Any) -> None:
        self.checked.discard(offer.source)
        self._desk.downloads.forget(offer.source)
        self._desk.downloads.start(offer.source, offer.title, what)

    def _ask_to_cancel(self, offer: Offer) -> None:
        """What has arrived would be lost: asked first."""
        downloads, source = self._desk.downloads, offer.source
        made = downloads.all[source]
        if made.what != "download" or not made.done:
            downloads.cancel(source)
            return
        self.sheet = ask(
            self._page, f"Cancel the download of {offer.title}?",
            f"{size(made.done)} have arrived and are deleted. A pause keeps them, also when "
            "Understudy is closed.",
            "Cancel Download", lambda: downloads.cancel(source), stay="Keep",
        )  # fmt: skip

    def _ask_to_delete(self, offer: Offer) -> None:
        found = self.holdings.get(offer.source)
        if found is None:
            return
        text = f"{size(found.size)} of the disk become free. It can be downloaded again."
        if found.kind != "hub":
            text = f"{size(found.size)} of the disk become free. This cannot be undone."
        if found.runs:
            names = ", ".join(found.runs[:_NAMED])
            more = f" and {len(found.runs) - _NAMED} more" if len(found.runs) > _NAMED else ""
            need = "needs" if len(found.runs) == 1 else "need"
            text += (
                f"\n\n{plural(len(found.runs), 'run')} {need} it to go on, to answer or to be "
                f"exported: {names}{more}."
            )
        self.sheet = ask(
            self._page, f"Delete {offer.title} from this {MACHINE}?", text, "Delete Model",
            partial(self._delete, offer.source, bool(found.runs)), stay="Keep",
        )  # fmt: skip

    def _delete(self, source: str, needed: bool) -> None:
        folder = self._desk.settings.value.models_folder
        what = jobs.DeleteJob(
            model=source, root=str(self._desk.runs.root), even_if_used=needed,
            folders=(folder,) if folder else (),
        )  # fmt: skip
        self.errand.ask(what, self._take_deleted, self.refused.emit)

    def _take_deleted(self, data: dict[str, Any]) -> None:
        self.holdings.pop(data["model"], None)
        self.deleted.emit(data["model"], float(data["freed"]))

    def _ask_to_pack(self, offer: Offer) -> None:
        parameters = offer.base.parameters if offer.base else 0
        sizes = {str(bits): size(packed_bytes(parameters, bits)) for bits in WIDTHS}
        taken = {str(bits) for bits in WIDTHS if self.packing.place(offer.source, bits).exists()}
        sheet = self.sheet = PackSheet(self._page, offer.title, sizes, frozenset(taken))
        sheet.chosen.connect(
            lambda bits: self.packing.start(offer.source, bits)  # one at a time: the last asked for
        )
        sheet.open()
