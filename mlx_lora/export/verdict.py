"""How far an exported model is from the one in the app, and what that means in words.

Measured on next-token distributions p (the app's) and q (the exported one's): mean KL(p || q) in
nats, top-1 agreement, the largest difference of a log-probability, and how wrong the adapter's
effect is,
|| (log q - log p0) - (log p - log p0) || / || log p - log p0 || with p0 the base's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.export.reference import Reference

# (effect wrong by, and mean KL above): beyond both an export in that precision is broken. Measured
# on random models, where a permutation left out or a wrong strength is off by 0.69 and more
LIMITS = {
    "f32": (2e-3, 1e-9), "gelu": (1e-2, 1e-6), "f16": (1e-2, 1e-3), "bf16": (0.1, 1e-3),
    "q8": (0.15, 1e-2),
}  # fmt: skip
_COARSE = (1.0, 0.5)
_SAME_TOP, _SAME_KL = 0.995, 1e-3


class Difference(msgspec.Struct, frozen=True):
    """Two models compared on the same rows."""

    kl: float
    top1: float
    largest: float
    effect: float
    effect_error: float
    rows: int
    positions: int

    @property
    def same(self) -> bool:
        """Whether a person would ever see a difference."""
        return self.top1 >= _SAME_TOP and self.kl <= _SAME_KL

    def words(self) -> str:
        """The verdict with its figures."""
        if self.same:
            figures = f"same next token {self.top1:.1%}, mean KL {self.kl:.2g} nats"
            return f"the same as in the app ({figures}, {self.positions} positions)"
        return (
            f"drifted by {self.kl:.2g} nats (mean KL), same next token {self.top1:.1%} "
            f"of {self.positions} positions"
        )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked of an export and what came of it.

    Attributes:
        by: `llama.cpp`, `re-read` or `nobody` (--no-verify).
        why: what kept it from being run in the program it is for; empty where nothing did.
        texts: texts that gave the same ids.
        own_rows: whether it was judged on the run's own rows, not on texts of ours.
        tensor_error: largest relative error of a tensor, by how it is held.
    """

    by: str
    why: str = ""
    difference: Difference | None = None
    texts: int = 0
    own_rows: bool = False
    tensor_error: dict[str, float] = {}

    def words(self) -> str:
        """One sentence."""
        if self.by == "nobody":
            return "Not verified."
        how = "Verified in llama.cpp" if self.by == "llama.cpp" else "Read back and compared"
        parts = [self.difference.words()] if self.difference else []
        parts += ["judged on bundled texts"] if self.difference and not self.own_rows else []
        parts += [f"{self.texts} texts give the same tokens"] if self.texts else []
        parts += [f"not run in llama.cpp: {self.why}"] if self.why else []
        return f"{how}: {'; '.join(parts) or 'every tensor as it was meant'}."


def compare(reference: Reference, written: Path, precision: str) -> tuple[Difference, str]:
    """(how far, why it is broken or "") of the logits in the file `written`."""
    kl = top = largest = error = effect = size = 0.0
    files = (reference.adapted, written, reference.base)
    for rows in zip(*(reference.logits(path) for path in files), strict=True):
        ours, theirs, before = (log_probabilities(part) for part in rows)
        if not np.isfinite(theirs).all():
            return _nothing(reference), "it gives numbers that are not finite"
        kl += float((np.exp(ours) * (ours - theirs)).sum())
        top += float((ours.argmax(-1) == theirs.argmax(-1)).sum())
        largest = max(largest, float(np.abs(ours - theirs).max()))
        error += float(((ours - theirs) ** 2).sum())
        size += float(((ours - before) ** 2).sum())
        effect += float(np.abs(ours - before).mean(-1).sum())
    count = max(reference.positions, 1)
    found = Difference(
        kl=max(kl / count, 0.0),
        top1=top / count,
        largest=largest,
        effect=effect / count,
        effect_error=(error / size) ** 0.5 if size else 0.0,
        rows=len(reference.rows),
        positions=reference.positions,
    )
    return found, _judge(found, precision)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """The log softmax over the last axis, float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _judge(found: Difference, precision: str) -> str:
    """Why this is more than `precision` explains; empty where it is not."""
    if precision in LIMITS:
        error, kl = LIMITS[precision]
        beyond = found.effect_error > error and found.kl > kl
    else:
        kl, top = _COARSE
        beyond = found.kl > kl and found.top1 < top
    if not beyond:
        return ""
    return (
        f"it does not answer like the model in the app (same next token {found.top1:.1%}, "
        f"mean KL {found.kl:.2g} nats, adapter's effect off by {found.effect_error:.1%})"
    )


def _nothing(reference: Reference) -> Difference:
    return Difference(0.0, 0.0, 0.0, 0.0, 0.0, len(reference.rows), reference.positions)


def facts(verdict: Verdict) -> dict[str, Any]:
    """For `export.json`, the run's log and --json."""
    return {**msgspec.to_builtins(verdict), "words": verdict.words()}
