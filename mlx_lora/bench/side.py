"""The child process of one side: `python -P -m mlx_lora.bench.side ours|mlx-lm`.

In: `{"do": ..., ...}`, a JSON line each. Out: one JSON line of figures each, or `{"error": [code,
where, why, fix]}`. What libraries print goes to stderr. It ends when stdin does.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mlx_lora import blas
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


class Actions(Protocol):
    """What a side can be told to do."""

    def act(self, do: str, given: dict[str, Any]) -> dict[str, Any]:
        """Do it; returns figures that go into JSON."""


def main(name: str) -> None:
    """Answer until nobody asks any more."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    blas.prepare()
    actions: Actions | None = None
    for line in sys.stdin.buffer:
        given = msgspec.json.decode(line)
        try:
            do = given.pop("do")
            if do == "load":
                answer = _load(name, **given)
            else:
                actions = actions or _actions(name)
                answer = actions.act(do, given)
        except UserError as error:
            answer = {"error": [error.code, error.where, error.why, error.fix]}
        stream.write(msgspec.json.encode(answer) + b"\n")
        stream.flush()


def _actions(name: str) -> Actions:
    """Imports the engine, each side its own."""
    if name == "ours":
        from mlx_lora.bench.ours import Ours

        return Ours()
    from mlx_lora.bench.peer import MlxLm

    return MlxLm()


def _load(name: str, model: str) -> dict[str, Any]:
    """A model and its tokenizer in memory, with no more imported than that takes."""
    began = time.perf_counter()
    if name == "ours":
        from mlx_lora.models import loading

        load: Callable[[str], object] = loading.load_model
    else:
        import mlx_lm

        load = mlx_lm.load
    imported = time.perf_counter()
    load(model)
    return {"imports": imported - began, "seconds": time.perf_counter() - imported}


if __name__ == "__main__":
    main(sys.argv[1])
