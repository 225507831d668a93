"""Whether the hub may be asked at all: a switch in the data root, and HF_HUB_OFFLINE.

Nothing but a download needs the hub: with the switch on no connection is tried, and every model
and dataset that is on this machine works as before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.storage import storage_errors, write_file

if TYPE_CHECKING:
    from pathlib import Path

# what the hub's own library heeds, and what it takes for yes
_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = {"1", "ON", "YES", "TRUE"}


class HubSettings(msgspec.Struct, frozen=True):
    """`hub.json` of the data root."""

    offline: bool = False


def offline_reason(root: Path) -> str:
    """Why no connection is tried, in words; empty where one may be."""
    for name in _VARIABLES:
        if os.environ.get(name, "").upper() in _YES:
            return f"{name} is set"
    return "Understudy is switched offline" if _read(root).offline else ""


def switch_offline(root: Path, *, on: bool) -> None:
    """Allow or forbid connections, for every Understudy that uses this data root.

    Raises:
        UserError: what the storage refuses.
    """
    place = _place(root)
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    write_file(place, msgspec.json.encode(HubSettings(offline=on)) + b"\n")


def check_online(root: Path, where: str) -> None:
    """A connection may be tried.

    Raises:
        UserError: `network` where it may not, with how to allow it.
    """
    reason = offline_reason(root)
    if not reason:
        return
    fix = "switch it back with: understudy models offline off"
    if reason.startswith(_VARIABLES):
        fix = f"take {reason.partition(' ')[0]} out of the environment and try again"
    raise UserError("network", where, reason, fix)


def _read(root: Path) -> HubSettings:
    try:
        return msgspec.json.decode(_place(root).read_bytes(), type=HubSettings)
    except (OSError, msgspec.DecodeError):
        return HubSettings()


def _place(root: Path) -> Path:
    return root / "hub.json"
