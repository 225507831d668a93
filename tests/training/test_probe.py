"""A probe makes a run's own steps on its heaviest batch, keeps nothing, tells what a run takes."""

from __future__ import annotations

import json
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from models_made import make_model
from trial import drain

from mlx_lora import child, jobs
from mlx_lora.batches import count_batches, heaviest_batch, rows_of
from mlx_lora.child import Child
from mlx_lora.config import RunConfig, build_config, merge
from mlx_lora.control import Control
from mlx_lora.events import Failed, Finished, Phase, TrainStep
from mlx_lora.fit import read_try, with_batch
from mlx_lora.preflight import make_record
from mlx_lora.runs import RunStore
from mlx_lora.training.probe import heaviest, probe
from mlx_lora.training.session import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlx_lora.events import Event


def rows(count: int = 40, longest: int = 60) -> list[dict[str, str]]:
    draw = random.Random(0)
    return [
        {"prompt": "a" * draw.randint(2, longest), "completion": "b" * draw.randint(2, longest)}
        for _ in range(count)
    ]


def config(model: Path, text: Path, **more: Any) -> RunConfig:
    tree = {
        "model": {"source": str(model)},
        "data": {"source": str(text), "max_length": 100},
        "training": {"batch_size": 4},
    }
    return build_config(merge(tree, more))


def test_three_steps_and_nothing_is_kept(
    root: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    chosen = config(make_model(tmp_path / "m"), write_rows(rows()))
    record, _ = make_record(chosen, root)
    said = list(probe(jobs.ProbeJob(record=record, root=str(root)), Control()))
    steps = [one for one in said if isinstance(one, Phase) and one.name == "probing"]
    assert steps == [Phase("probing", number, 3) for number in range(4)]
    found = read_try(4, said, said[-1])  # type: ignore[arg-type]
    assert found is not None
    report, known = found.report, rows_of(found.report["data"])
    assert found.fits
    assert found.need == report["peak"] + report["runtime"] > report["held"] > 0
    assert report["peak"] >= report["prepared"] >= report["held"]
    assert report["documents"] == 36
    assert report["seconds"] > 0
    assert known is not None
    # what is foreseen from lengths alone is what was laid out
    batch = heaviest_batch(chosen, known, 99, metal=False)
    assert report["batches"] == count_batches(chosen, known, metal=False).count
    assert batch.tokens == pytest.approx(report["tokens"], rel=0.06)
    assert not list((root / "runs").glob("*")) if (root / "runs").exists() else True


def test_the_heaviest_batch_is_that_of_most_positions(
    root: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    chosen = config(make_model(tmp_path / "m"), write_rows(rows()), engine={"batching": "rows"})
    session = drain(prepare(make_record(chosen, root)[0], root))
    order = session.order
    made = [order.batch(number) for number in range(order.batches_per_epoch)]
    taken = heaviest(session, None)
    assert len(taken) * order.width(taken) == max(len(b) * order.width(b) for b in made)


def test_told_to_stop_it_says_so(
    root: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    record, _ = make_record(config(make_model(tmp_path / "m"), write_rows(rows())), root)
    control = Control()
    control.stop()
    said = list(probe(jobs.ProbeJob(record=record, root=str(root)), control))
    assert said == [Finished(reason="stopped")]
    assert read_try(4, said, said[-1]) is None  # type: ignore[arg-type]


def in_child(job: jobs.Job) -> tuple[list[Event], Finished | Failed]:
    worker = Child(job)
    return list(worker.read()), worker.outcome()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"training": {"batch_size": 8, "grad_checkpoint": True}},
        {"adapter": {"layers": 2}},
        {"engine": {"loss": "full", "batching": "rows"}},
    ],
    ids=["plain", "again", "frozen", "full"],
)
def test_the_peak_is_that_of_the_run(
    root: Path, stories: Path, write_rows: Callable[..., Path], more: dict[str, Any]
) -> None:
    tree = merge({"data": {"max_length": 256}, "training": {"epochs": 2.0}}, more)
    chosen = config(stories, write_rows(rows(30, 300)), **tree)
    record, name = make_record(chosen, root)
    said, outcome = in_child(jobs.ProbeJob(record=record, root=str(root)))
    found = read_try(chosen.training.batch_size, said, outcome)
    assert found is not None
    run = RunStore(root).create(record, name)
    said, outcome = in_child(jobs.TrainJob(run=str(run.folder), root=str(root)))
    assert isinstance(outcome, Finished), outcome
    peak = max(event.peak_memory for event in said if isinstance(event, TrainStep))
    print(f"{found.report['peak'] / peak:.3f} of {peak:,}")  # noqa: T201
    assert found.report["peak"] == pytest.approx(peak, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os.abort()", "raise MemoryError"])
def test_a_probe_that_dies_of_its_batch_has_answered(
    root: Path,
    tmp_path: Path,
    write_rows: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    """The worker is ended from within its second step, in each way an engine may end."""
    code = (
        "import os, sys\n"
        "from mlx_lora.training import step\n"
        "launch = step.Stepper.launch\n"
        "def dying(self, number, *rest, **named):\n"
        f"    if number == 2:\n        {end}\n"
        "    return launch(self, number, *rest, **named)\n"
        "step.Stepper.launch = dying\n"
        "from mlx_lora.worker import main\n"
        "sys.exit(main())\n"
    )
    monkeypatch.setattr(child, "worker_command", lambda: [sys.executable, "-P", "-c", code])
    record, _ = make_record(config(make_model(tmp_path / "m"), write_rows(rows())), root)
    job = jobs.ProbeJob(record=with_batch(record, 16), root=str(root))
    said, outcome = in_child(job)
    found = read_try(16, said, outcome)
    assert found is not None
    assert (found.batch_size, found.fits, found.need) == (16, False, 0)
    assert found.why


@pytest.mark.slow
def test_the_command_shows_both_columns_and_the_largest_batch(
    understudy: Any, tmp_path: Path, write_rows: Callable[..., Path], root: Path
) -> None:
    asked = (
        *("train", "--model", str(make_model(tmp_path / "m")), "--data", str(write_rows(rows()))),
        *("--max-length", "100", "--batch-size", "8", "--probe"),
    )
    done = understudy(*asked)
    assert done.returncode == 0, done.stderr
    for words in ("predicted", "probed", "in all", "Batch   8 ", "Batch  36 ", "--batch-size 36"):
        assert words in done.stdout, done.stdout
    lines = [json.loads(line) for line in understudy(*asked, "--json").stdout.splitlines()]
    assert [line["type"] for line in lines[-2:]] == ["report", "finished"]
    told = lines[-2]
    assert told["kind"] == "fit"
    assert [one["batch_size"] for one in told["data"]["tries"]] == [8, 16, 32, 36]
    assert told["data"]["largest"] == 36
    assert told["data"]["predicted"]["need"] > 0
    refused = understudy(*asked, "--out", str(tmp_path / "run"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("error[bad_option] --out and --probe: ")
    assert "probe" in {line.get("kind") for line in lines}
    assert not (root / "runs").exists() or not list((root / "runs").iterdir())
