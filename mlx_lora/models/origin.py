"""Where a model in the library came from: `origin.json` beside its weights. No mlx here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlx_lora.storage import write_file

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "origin.json"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was made of, and what that cost; no path and no name of a person.

    Attributes:
        made_from: name of the model it was packed from.
        bits: a weight, as asked for.
        left_plain: matrices that stayed as they were, because no group fits their width.
        kl: mean KL in nats from the original on sample texts; None where it was not measured.
        top1: share of the next tokens that are the original's.
        positions: next tokens compared.
    """

    made_from: str
    bits: int
    understudy: str
    left_plain: tuple[str, ...] = ()
    kl: float | None = None
    top1: float | None = None
    positions: int = 0

    def words(self) -> str:
        """What the packing cost, in a sentence; "" where it was not measured."""
        if self.kl is None or self.top1 is None:
            return ""
        return (
            f"{self.top1:.1%} of next tokens are the original's, mean KL {self.kl:.2g} nats "
            f"({self.positions} positions of sample text)"
        )


def read_origin(folder: Path) -> Origin | None:
    """What a folder says of itself; None where it says nothing that can be read."""
    try:
        return msgspec.json.decode((folder / ORIGIN).read_bytes(), type=Origin)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_origin(folder: Path, origin: Origin) -> None:
    """Note it, in place of what was noted before.

    Raises:
        UserError: what the storage refuses.
    """
    content = msgspec.json.format(msgspec.json.encode(origin), indent=1)
    write_file(folder / ORIGIN, content + b"\n")
