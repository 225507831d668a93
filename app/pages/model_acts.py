"""What can be done with a model in the state it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.models.downloads import Download
from app.models.hub_model import HubModel
from app.models.offers import Fit, Offer
from app.models.outlook import Fix
from app.widgets.model_rail import Act
from app.words import size
from mlx_lora import events
from mlx_lora.models.holdings import Holding

if TYPE_CHECKING:
    from app.models.packing import Packing

# what bringing files again puts right
_MENDED = {"damaged_model", "missing_shard", "no_weights", "bad_model"}
# full precision; a model below it is packed already
_FULL = 16
_FIXES = 3


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one model.

    Attributes:
        remote: of the hub, where it was found or looked at; `unknown` why it could not be.
        holding: of this machine's disk, once it was read.
        download: on its way, paused or failed.
        chosen, looked: the project's model; the one the rail is about.
        checked: its files were looked through just now, and are right.
        offline: why the hub is not asked; empty where it may be.
        fixes: what needs less memory; `smaller` another model that fits.
        limit: bytes training may use.
    """

    offer: Offer
    limit: int
    fit: Fit | None = None
    remote: HubModel | None = None
    unknown: events.Failed | None = None
    looking: bool = False
    holding: Holding | None = None
    download: Download | None = None
    chosen: bool = False
    looked: bool = False
    checked: bool = False
    offline: str = ""
    fixes: tuple[Fix, ...] = ()
    smaller: str = ""

    @property
    def on_hub(self) -> bool:
        """Whether it is one of the hub's."""
        source = self.offer.source
        return source.count("/") == 1 and not source.startswith(("~", "/", "."))

    @property
    def mendable(self) -> bool:
        """Whether bringing files again puts right what is wrong with it."""
        problem = self.offer.problem
        return self.on_hub and problem is not None and problem.code in _MENDED


def acts_for(seen: Seen, packing: Packing | None) -> list[Act]:
    """What can be done about it now."""
    made, offer = seen.download, seen.offer
    if packing is not None and packing.job is not None:
        return [Act("stop_pack", "Stop")]
    if made is not None and made.doing != "leaving":
        return _download_acts(made, seen)
    if offer.problem is not None:
        why = "Brings again what is damaged, and nothing else."
        mend = seen.mendable and not seen.offline
        return [Act("repair", "Repair", icon="redo", why=why)] if mend else []
    if offer.here:
        return _fit_acts(seen)
    return [] if seen.offline else _absent_acts(seen)


def _absent_acts(seen: Seen) -> list[Act]:
    if seen.unknown is not None:
        return [Act("look", "Try Again"), Act("token", "Use a Token…")]
    acts = [Act("download", "Download", icon="download")]
    if seen.remote is not None and seen.remote.twin:
        why = f"{seen.remote.twin} is the same model without asking."
        acts.append(Act("twin", "Use Open Twin", why=why))
    return acts


def _fit_acts(seen: Seen) -> list[Act]:
    """One press for what needs less memory, as Configure has it."""
    fixes = [
        Act(f"fix:{at}", f"{fix.name} · {size(fix.need)}", why=fix.why)
        for at, fix in enumerate(seen.fixes[:_FIXES])
    ]
    if not seen.smaller:
        return fixes
    why = "Another model, which fits with ease."
    return [*fixes, Act("smaller", f"Smaller: {seen.smaller}", why=why)]


def _download_acts(made: Download, seen: Seen) -> list[Act]:
    cancel, online = Act("cancel", "Cancel"), not seen.offline
    if made.what != "download":
        return _check_acts(made, online=online)
    if made.doing == "paused":
        return [*([Act("download", "Go On", icon="play")] if online else []), cancel]
    if made.doing != "failed":
        return [Act("pause", "Pause", icon="pause"), cancel]
    closed = made.failed is not None and made.failed.code == "no_access"
    again = Act("token", "Get Access…") if closed else Act("download", "Try Again", icon="redo")
    return [again, cancel]


def _check_acts(made: Download, *, online: bool) -> list[Act]:
    if made.doing != "failed":
        return [Act("cancel", "Stop")]
    mend = [Act("repair", "Repair", icon="redo")] if made.repairable and online else []
    return [*mend, Act("forget", "Dismiss")]


def links_for(seen: Seen, packing: Packing | None) -> list[Act]:
    """What can be done at any time."""
    made, offer = seen.download, seen.offer
    busy = (made is not None and made.at_work) or (packing is not None and packing.job is not None)
    acts = []
    if seen.on_hub:
        acts.append(Act("page", "Open Its Page", "link"))
    if not offer.here or busy or offer.source == "demo":
        return acts
    if seen.holding is not None:
        acts.append(Act("verify", "Verify Files", "link"))
    if offer.problem is None and offer.bits >= _FULL:
        acts.append(Act("pack", "Smaller Copy…", "link"))
    if seen.holding is not None:
        acts.append(Act("delete", "Delete…", "link"))
    return acts
