"""A side of a comparison as a child process that stays: told what to do, it answers with figures.

Two processes keep the memory of the sides apart, and mlx-lm real: our own process stands in for its
package (models/definitions.py). One waits while the other works.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora import blas
from mlx_lora.child import worker_environment
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

Name = Literal["ours", "mlx-lm"]


class Process:
    """One side. Use as a context manager: it is gone when the block ends."""

    def __init__(self, name: Name, log: Path) -> None:
        self._name, self._log = name, log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlx_lora.bench.side", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=side_environment(),
                start_new_session=True,
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """Let it do something; returns its figures.

        Raises:
            UserError: what it failed with, in its own words where it had some.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(msgspec.json.encode({"do": do, **given}) + b"\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise self._gone()
        answer: dict[str, Any] = msgspec.json.decode(line)
        if "error" in answer:
            raise UserError(*answer["error"])
        return answer

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _gone(self) -> UserError:
        code = self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        who = "Understudy" if self._name == "ours" else "mlx-lm"
        why = f"{who} ended in the middle of it (exit {code}) {last}".strip()
        return UserError("engine", "bench", why, "try a smaller model or a lower --batch-size")


def side_environment() -> dict[str, str]:
    """The same for both sides: no network, and on Linux the same BLAS threads.

    On a Mac nothing but the network is touched.
    """
    made = {**worker_environment(), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if sys.platform == "linux":
        made["OPENBLAS_NUM_THREADS"] = str(blas.threads())
        made["MLX_DISABLE_COMPILE"] = os.environ.get("MLX_DISABLE_COMPILE", "1")
    return made
