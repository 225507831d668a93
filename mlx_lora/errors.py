"""The one kind of error a person is shown without details."""

from __future__ import annotations


class UserError(Exception):
    """Something the person can put right: what it is called, where, why, and what to do.

    Attributes:
        code: short stable name for scripts, e.g. `bad_data`.
        where: file, option or setting concerned.
        why: what is wrong, in the person's words.
        fix: the one thing to do about it.
        saved: what of their work is safe, or empty.
    """

    def __init__(self, code: str, where: str, why: str, fix: str, saved: str = "") -> None:
        super().__init__(code, where, why, fix, saved)
        self.code, self.where, self.why, self.fix, self.saved = code, where, why, fix, saved

    def line(self) -> str:
        """The contract's one line on stderr: `error[CODE] where: why. Fix: ... Saved: ...`."""
        kept = f" Saved: {self.saved}." if self.saved else ""
        text = f"error[{self.code}] {self.where}: {_ended(self.why)} Fix: {_ended(self.fix)}{kept}"
        return " ".join(text.split())

    def __str__(self) -> str:
        return self.line()


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else sentence + "."
