"""Speed against mlx-lm on the same work: interleaved pairs in one run, the median of their ratios.

What `understudy bench --against mlx-lm` measures, on data sets of known lengths: same rows, learnt
tokens counted in the rows, same adapter, optimizer, base and BLAS threads; both `train()` as users
run them. Beside mlx-lm as shipped stands mlx-lm with its length sort repaired, so that a bug of its
own is not our gain. No absolute time is asserted. `-s` prints the figures.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import blas
from mlx_lora.bench.measure import Bench
from mlx_lora.bench.pairs import spread
from mlx_lora.bench.results import REPAIRED, SHIPPED, Comparison, Work

if TYPE_CHECKING:
    from pathlib import Path

# for the table in README: BENCH_ROUNDS=5 BENCH_ROWS=96, 20 minutes
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
ROWS = int(os.environ.get("BENCH_ROWS", "32"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def model(stories: Path, tmp_path: Path) -> Path:
    """The small Llama, told to read 1,024 tokens."""
    folder = tmp_path / "stories260k"
    folder.mkdir()
    for path in stories.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def tell(name: str, comparison: Comparison) -> dict[str, float]:
    """Print it; returns how many times faster we are than each other side, the median."""
    say = sys.stdout.write
    say(f"\n{name}, {blas.expected()}: {comparison.what}\n")
    found = {}
    for side in comparison.sides:
        padding = f", {side.facts['padding']:.1%} padded" if "padding" in side.facts else ""
        line = f"  {side.name}: {side.spread.words()} {comparison.unit}{padding}"
        if side is not comparison.sides[0]:
            pairs = spread(comparison.ratios(side))
            found[side.name] = pairs.median
            line += f"; we are faster by {pairs.words()}, {pairs.count} pairs"
        say(f"{line}\n")
    return found


def train(rounds: int, **work: Any) -> Comparison:
    """Both sides through one whole training run each, so many times in turns."""
    with Bench(Work(**work), against=True, rounds=rounds) as bench:
        bench.prepare()
        return bench.train()


@pytest.mark.parametrize(("batch_size", "goal"), [(4, 2.0), (8, 2.5), (16, 3.0)])
def test_lengths_of_instructions(
    batch_size: int, goal: float, model: Path, shared: Path, scratch: Path
) -> None:
    """Lognormal, median 90, sigma 0.75, 16 to 1,024 tokens, cut from Tiny Shakespeare."""
    found = train(
        ROUNDS, model=str(model), name="stories260k", data=str(shared / "tinyshakespeare.txt"),
        scratch=str(scratch), rows=ROWS, batch_size=batch_size, max_length=1024,
    )  # fmt: skip
    assert tell(f"instruction lengths, batch {batch_size}", found)[SHIPPED] >= goal


def test_answers_of_gsm8k(model: Path, shared: Path, scratch: Path) -> None:
    """Questions read and answers learnt, as mlx-lm's --mask-prompt does."""
    found = train(
        ROUNDS, model=str(model), name="stories260k", data=str(shared / "gsm8k_alpaca_format.json"),
        scratch=str(scratch), rows=2 * ROWS // 3, max_length=1024, train_on="completions",
    )  # fmt: skip
    ratios = tell("GSM8K", found)
    assert ratios[SHIPPED] > 1.0
    assert ratios[REPAIRED] > 0.9


def test_full_blocks_are_not_slower(model: Path, shared: Path, scratch: Path) -> None:
    """No row is padded on either side."""
    found = train(
        2 * ROUNDS - 1, model=str(model), name="stories260k",
        data=str(shared / "tinyshakespeare.txt"), scratch=str(scratch), rows=48,
        max_length=128, shape="blocks",
    )  # fmt: skip
    assert found.sides[1].facts["padding"] == 0
    assert tell("full blocks", found)[SHIPPED] > 0.9


def test_loading_is_faster(stories: Path, scratch: Path) -> None:
    """From the start of a process; the call alone is told, and asserted to be no slower by half."""
    work = Work(model=str(stories), name="stories260k", scratch=str(scratch))
    with Bench(work, against=True, rounds=7) as bench:
        whole, running, call = bench.load()
    assert tell("load", whole)["mlx-lm"] >= 10
    assert tell("load, process running", running)["mlx-lm"] >= 10
    assert tell("load, imported", call)["mlx-lm"] > 0.5


@pytest.mark.parametrize("threads", [1, None], ids=["one thread", "as shipped"])
def test_generating_gives_the_same_tokens(
    threads: int | None, demo_model: Path, shared: Path, scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And is not slower on one thread of BLAS.

    With as many as cores, they and the thread that reads tokens wait for each other: either side
    makes 300 tokens a second or 450, from one answer to the next. That is told, not asserted.
    """
    if threads is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", str(threads))
    work = Work(
        model=str(demo_model), name="demo", data=str(shared / "tinyshakespeare.txt"),
        scratch=str(scratch),
    )  # fmt: skip
    with Bench(work, against=True, rounds=7 if threads else 15) as bench:
        bench.prepare()
        found = bench.generate()
    ratio = tell(f"generate, {threads or 'all'} threads", found)["mlx-lm"]
    assert threads is None or ratio > 0.9
    assert ", the same ones" in found.what
