"""Predicted, probed and measured memory of twelve configurations, beside each other.

`python tests/benchmarks/forecast_table.py [--only N,N] [--out table.json]`

Predicted is the forecast before anything runs; probed what three steps of `train --probe` on the
heaviest batch took; measured the peak of a real run over two epochs, all by MLX's
own counter in fresh processes. In all is the process's resident memory beside what was predicted.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mlx_lora import blas  # noqa: E402

blas.prepare()

import msgspec  # noqa: E402
from models_made import make_model  # noqa: E402

from mlx_lora import jobs  # noqa: E402
from mlx_lora.batches import rows_of  # noqa: E402
from mlx_lora.child import Child  # noqa: E402
from mlx_lora.config import build_config, merge  # noqa: E402
from mlx_lora.events import Finished, Report, TrainStep  # noqa: E402
from mlx_lora.forecast import base_of, forecast_memory  # noqa: E402
from mlx_lora.machine import this_machine  # noqa: E402
from mlx_lora.models.shelf import look_up  # noqa: E402
from mlx_lora.preflight import make_record  # noqa: E402
from mlx_lora.runs import RunStore  # noqa: E402

STORIES = ROOT.parent / "shared" / "data" / "models" / "stories260k"
SMALL = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "head_dim": 48}
LONG = SMALL | {"max_position_embeddings": 2048}
WORDS = ("king", "night", "guard", "bread", "wine", "walks", "asks", "goes", "there", "out")
PACKED = {"engine": {"base": "packed"}}

# name, model, rows, what is set
CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("float, batch 1", "small", "short", {"training": {"batch_size": 1}}),
    ("float, batch 4", "small", "short", {}),
    ("stories260k, batch 8", "stories", "short", {"training": {"batch_size": 8}}),
    ("8 bit, packed", "small", "short", merge(PACKED, {"model": {"bits": "8"}})),
    ("4 bit, packed, batch 8", "small", "short",
     merge(PACKED, {"model": {"bits": "4"}, "training": {"batch_size": 8}})),
    ("layers made again", "small", "short", {"training": {"grad_checkpoint": True}}),
    ("all logits held", "words", "short", {"engine": {"loss": "full"}}),
    ("65 k words, chunked", "words", "short", {}),
    ("2 of 6 layers, frozen kept", "small", "short", {"adapter": {"layers": 2}}),
    ("packed rows", "small", "mixed", {"engine": {"batching": "pack"}}),
    ("long rows", "long", "long", {"data": {"max_length": 1024}, "training": {"batch_size": 2}}),
    ("experts", "experts", "short", {}),
]  # fmt: skip


def make_models(folder: Path) -> dict[str, str]:
    """By name."""
    experts = SMALL | {"intermediate_size": 256, "num_hidden_layers": 4, "sliding_window": 128}
    kinds = {"layer_types": ["sliding_attention", "full_attention"] * 2}
    made = {
        "small": make_model(folder / "small", **SMALL),
        "long": make_model(folder / "long", **LONG),
        "words": make_model(folder / "words", vocab_size=65_536, **SMALL),
        "experts": make_model(folder / "experts", "gpt_oss", **experts, **kinds),
        "stories": STORIES,
    }
    return {name: str(path) for name, path in made.items()}


def make_rows(folder: Path) -> dict[str, str]:
    """By name; a byte is a token for the models made here, so rows are short in words."""
    spans = {"short": (12, 40, 24), "mixed": (3, 40, 60), "long": (60, 180, 12)}
    found = {}
    for name, (low, high, count) in spans.items():
        draw = random.Random(name)
        lines = []
        for _ in range(count):
            words = [draw.choice(WORDS) for _ in range(draw.randint(low, high))]
            half = len(words) // 2
            row = {"prompt": " ".join(words[:half]), "completion": " " + " ".join(words[half:])}
            lines.append(json.dumps(row) + "\n")
        path = folder / f"{name}.jsonl"
        path.write_text("".join(lines))
        found[name] = str(path)
    return found


def run(job: Any) -> tuple[dict[str, Any], int]:
    """(the last probe report, MLX's peak over all steps) of a worker."""
    child, report, peak = Child(job), dict[str, Any](), 0
    for event in child.read():
        match event:
            case Report(kind="probe", data=data):
                report = data
            case TrainStep():
                peak = max(peak, event.peak_memory)
            case _:
                pass
    outcome = child.outcome()
    if not isinstance(outcome, Finished):
        raise SystemExit(f"{outcome}")
    return report, peak


def measure(name: str, model: str, data: str, more: dict[str, Any], root: Path) -> dict[str, Any]:
    """One configuration, three ways."""
    tree = {
        "model": {"source": model},
        "data": {"source": data, "max_length": 256, "val_fraction": 0.1},
        "training": {"epochs": 2.0, "batch_size": 4},
        "samples": {"tokens": 8},
    }
    config = build_config(merge(tree, more))
    record, _ = make_record(config, root)
    probed, _ = run(jobs.ProbeJob(record=record, root=str(root)))
    kept = RunStore(root).create(record, name.replace(" ", "-"))
    _, peak = run(jobs.TrainJob(run=str(kept.folder), root=str(root)))
    base, machine = base_of(look_up(model)), this_machine()
    assert base is not None
    memory = forecast_memory(
        config, base, metal=machine.metal, rows=rows_of(probed["data"]), memory=machine.memory
    )
    return {
        "name": name,
        "predicted": memory.engine,
        "parts": msgspec.to_builtins(memory),
        "probed": probed["peak"],
        "prepared": probed["prepared"],
        "measured": peak,
        "predicted_total": memory.total,
        "footprint": probed["footprint"],
        "batch": f"{probed['rows']} x {probed['width']}",
        "engine": probed["engine"],
    }


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="numbers of configurations, from 1")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    wanted = {int(n) for n in chosen.only.split(",") if n} or set(range(1, len(CASES) + 1))
    found = []
    write = sys.stdout.write
    write("| | configuration | heaviest batch | predicted | probed | measured | predicted / ")
    write("measured | probed / measured | in all, predicted / process |\n" + "|---" * 9 + "|\n")
    with tempfile.TemporaryDirectory() as folder:
        models, rows = make_models(Path(folder)), make_rows(Path(folder))
        for number, (name, model, data, more) in enumerate(CASES, 1):
            if number not in wanted:
                continue
            row = measure(name, models[model], rows[data], more, Path(folder) / "home")
            found.append(row)
            mb = [f"{row[key] / 1e6:.1f} MB" for key in ("predicted", "probed", "measured")]
            ratios = [f"{row[key] / row['measured']:.3f}" for key in ("predicted", "probed")]
            total = f"{row['predicted_total'] / row['footprint']:.2f}"
            cells = [str(number), name, row["batch"], *mb, *ratios, total]
            write(f"| {' | '.join(cells)} |\n")
            sys.stdout.flush()
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
