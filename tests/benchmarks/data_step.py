"""The data step on a large file:  python tests/benchmarks/data_step.py TEXT [GB] [--check]

Writes JSON lines of prompt and completion (words of TEXT) into a temporary folder and measures,
each in a process of its own: rows read, rows read and understood, polars and pyarrow reading the
same file whole (plain reading, no text looked at), the first preview of the inspect job, and with
--check the whole of it. Peak is the resident size of the process. Run it on an idle machine.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
_HEAD = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
path = Path({path!r})
started = time.perf_counter()
def tell(name, rows):
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = rows / seconds
    figures = f"{{seconds:8.2f}} s {{speed:12,.0f}} rows/s  peak {{peak:7,.0f}} MB"
    print(f"{{name:>34}} {{figures}}", flush=True)
"""
_JOBS = {
    "read": """
from mlx_lora.data.reading import read_rows
started = time.perf_counter()
tell("rows read", sum(1 for _ in read_rows(path)))
""",
    "understand": """
from mlx_lora.config import DataConfig
from mlx_lora.data.examples import read_examples
from mlx_lora.data.source import find_source
source = find_source(DataConfig(source=str(path)), path.parent)
started = time.perf_counter()
tell("rows read and understood", sum(1 for one in read_examples(source) if one.example))
""",
    "polars": """
import polars
started = time.perf_counter()
tell("polars.read_ndjson", polars.read_ndjson(path).height)
""",
    "pyarrow": """
import pyarrow.json
started = time.perf_counter()
tell("pyarrow.json.read_json", pyarrow.json.read_json(str(path)).num_rows)
""",
    "check": """
from mlx_lora import events, jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.inspect import inspect
job = jobs.InspectJob(
    model=ModelConfig(source="demo"), data=DataConfig(source=str(path)), seed=0, root="/nowhere"
)
seen = False
for event in inspect(job, Control()):
    if isinstance(event, events.Report) and event.kind == "preview" and not seen:
        seen = True
        tell("first rows shown, imports included", 200)
    if isinstance(event, events.Report) and event.kind == "inspect":
        tell("every row tokenized and checked", event.data["rows_read"])
    if seen and not {whole}:
        break
""",
}


def write_rows(path: Path, text: Path, size: int) -> int:
    """Write `size` bytes of rows; returns how many."""
    draw, words = random.Random(0), text.read_text(encoding="utf-8").split()
    done = count = 0
    with path.open("w", encoding="utf-8") as file:
        while done < size:
            at, asked, said = (
                draw.randrange(len(words) - 200),
                draw.randrange(8, 30),
                draw.randrange(20, 120),
            )
            row = {
                "prompt": f"{count}: {' '.join(words[at : at + asked])}?",
                "completion": " ".join(words[at + asked : at + asked + said]),
            }
            done += file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def main() -> None:
    """Measure and print."""
    numbers = [word for word in sys.argv[2:] if not word.startswith("--")]
    size = int(float(numbers[0] if numbers else 1.0) * 1e9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        count = write_rows(path, Path(sys.argv[1]), size)
        sys.stdout.write(f"{count:,} rows, {path.stat().st_size / 1e9:.2f} GB\n")
        for code in _JOBS.values():
            script = (_HEAD + code).format(
                root=str(ROOT), path=str(path), whole="--check" in sys.argv
            )
            subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
