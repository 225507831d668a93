"""Every export of every family on float and packed bases: how far off, how large, how long.

`python -m tests.benchmarks.export_table [--out FILE.md] [--only llama3,demo] [--peers]`

Small random models with the families' real tokenizers (`../shared`), and the bundled one. Each
export is `understudy export --json` in a process of its own, its check included. Peak memory is the
ru_maxrss `os.wait4` gives of that process: the largest single one of the command, the worker it
waited for and the llama.cpp process that one waited for, not their sum. The copy is the same files
copied and flushed (fsync). Rows go to FILE.json as they come. Under 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
# family, tokenizer, and what of its settings is not as in tests/models_made.py
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama3": ("llama", "llama3", {"rope_scaling": ROPE}),
    "llama2": ("llama", "llama2", {"tied": False}),
    "mistral": ("mistral", "llama2", {"tied": False}),
    "gemma2": ("gemma2", "gemma3", {}),
    "gemma3": ("gemma3_text", "gemma3", {}),
    "qwen2": ("qwen2", "qwen3", {}),
    "qwen3": ("qwen3", "qwen3", {}),
    "phi3": ("phi3", "phi3", {"tied": False}),
    "demo": ("llama", "demo", {}),
}
BASES = {"float32": "keep", "4-bit": "4", "8-bit": "8"}
GROUPS = {
    "Adapters": [("mlx", ""), ("peft", ""), ("gguf-lora", "f32")],
    "Merged GGUF": [("gguf", q) for q in ("f32", "f16", "bf16", "q8_0")] + [("ollama", "f16")],
    "Merged GGUF, coarse": [("gguf", q) for q in ("q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0")],
    "Merged folders": [("hf", "16"), *(("mlx-fused", bits) for bits in ("16", "8", "6", "4"))],
}
# a vocabulary of 128 k and more takes its time: fewer of the packed bases
_LARGE = {"llama3", "gemma2", "gemma3", "qwen2", "qwen3"}
_SOME = {
    "4-bit": {"mlx", "peft", "gguf-lora f32", "gguf f32", "gguf f16", "gguf q8_0", "gguf q4_k_m",
              "hf 16", "mlx-fused 8", "mlx-fused 4"},
    "8-bit": {"gguf-lora f32", "gguf f32", "gguf q8_0"},
}  # fmt: skip
PEERS = ("llama3", "gemma3", "qwen3", "phi3")


def make(name: str, folder: str, base: str) -> tuple[str, str]:
    """A base and an adapter on it, in a process of its own: this one must stay small, because a
    child's peak begins at its parent's."""
    sys.path[:0] = [str(ROOT / "tests" / "export"), str(ROOT / "tests")]
    import made

    from mlx_lora import blas

    blas.prepare()
    family, tokenizer, changes = MODELS[name]
    model = Path(folder, "model")
    if name == "demo":
        model = made.DEMO
    elif not model.exists():
        made.make_base(model, family, tokenizer, **changes)
    if base == "packed":
        packed = shutil.copytree(model, Path(folder, "packed"))
        pair = made.make_pair(Path(folder, "packed-adapter"), made.pack(packed))
    else:
        size = 0.05 if name == "demo" else 0.1
        pair = made.make_pair(Path(folder, base), model, BASES[base], size=size)
    return str(pair.model), str(pair.adapter)


def apart(*arguments: str) -> tuple[str, str]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(make, *arguments).result()


def measured(pair: tuple[str, str], bits: str, form: str, quant: str, out: Path) -> dict[str, Any]:
    """One export as a person runs it."""
    command = [sys.executable, "-m", "app", "export", "--json", "--model", pair[0], "--adapter"]
    command += [pair[1], "--bits", bits, "--format", form, "--out", str(out)]
    command += ["--quant", quant] if quant else []
    home = {"UNDERSTUDY_HOME": str(out.with_name("home"))}
    at = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **home}, stdout=subprocess.PIPE, stderr=errors
        )
        lines = process.stdout or ()
        said = [(time.perf_counter() - at, json.loads(line)) for line in lines]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - at
        errors.seek(0)
        trouble = errors.read().decode()[-300:]
    row = {"seconds": took, "peak": usage.ru_maxrss * 1024, "exit": process.returncode}
    row["load"] = os.getloadavg()[0]
    report = next((event for _, event in said if event.get("kind") == "export"), None)
    if report is None:
        return {**row, "error": trouble.strip()}
    data = report["data"]
    row |= {"writing": _phase(said, "writing"), "copying": _copy(out), "by": data["by"]}
    row |= {"bytes": sum(data["files"].values()), "words": data["words"], "texts": data["texts"]}
    return row | (data["difference"] or {})


def _phase(said: list[tuple[float, dict[str, Any]]], name: str) -> float | None:
    """Seconds from the first event of a phase to the first of what follows it."""
    begins = next((n for n, (_, event) in enumerate(said) if event.get("name") == name), None)
    if begins is None:
        return None
    ends = next(at for at, event in said[begins:] if event.get("name") != name)
    return ends - said[begins][0]


def _copy(folder: Path) -> float:
    to = folder.with_name("copy")
    to.mkdir()
    began = time.perf_counter()
    for path in folder.iterdir():
        shutil.copyfile(path, to / path.name)
        with (to / path.name).open("rb") as file:
            os.fsync(file.fileno())
    took = time.perf_counter() - began
    shutil.rmtree(to)
    return took


def wanted(name: str, base: str, form: str, quant: str) -> bool:
    """Whether it is worth its time: an 8-bit base is not for what is coarser than itself."""
    if name in _LARGE and base in _SOME:
        return f"{form} {quant}".strip() in _SOME[base]
    coarse = (form, quant) in GROUPS["Merged GGUF, coarse"] or quant in {"4", "6"}
    return base != "8-bit" or not (coarse or form == "ollama")


def table(names: list[str], folder: Path, keep: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        place = folder / name
        place.mkdir()
        for base, bits in BASES.items():
            pair = apart(name, str(place), base)
            for form, quant in (pair for group in GROUPS.values() for pair in group):
                if not wanted(name, base, form, quant):
                    continue
                row = measured(pair, bits, form, quant, place / "out")
                rows.append({"model": name, "base": base, "format": form, "quant": quant, **row})
                shutil.rmtree(place / "out", ignore_errors=True)
                keep.write_text(json.dumps(rows, indent=1))
                sys.stderr.write(f"{name} {base} {form} {quant} {row['seconds']:.1f} s\n")
        shutil.rmtree(place)
    return rows


def peers(folder: Path) -> list[str]:
    """What mlx-lm's own GGUF writer does with the same inputs, and llama.cpp with what it wrote."""
    lines = [
        "| | base | last line of `mlx_lm.fuse --export-gguf` | llama.cpp |",
        "|---|---|---|---|",
    ]
    for name in PEERS:
        for base in ("float32", "packed"):
            place = folder / f"peer-{name}-{base}"
            place.mkdir()
            model, adapter = apart(name, str(place), base)
            command = [sys.executable, "-m", "mlx_lm", "fuse", "--model", model, "--adapter-path"]
            command += [adapter, "--save-path", str(place / "out"), "--export-gguf"]
            done = subprocess.run(command, capture_output=True, text=True)
            said = (done.stderr.strip() or done.stdout.strip() or "(nothing)").splitlines()[-1]
            files = list((place / "out").glob("*.gguf"))
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found = pool.submit(opened, str(files[0])).result() if files else "no file"
            kind = "4-bit" if base == "packed" else base
            lines.append(f"| {name} | {kind} | exit {done.returncode}: {said} | {found} |")
            shutil.rmtree(place)
    return lines


def opened(file: str) -> str:
    """Whether llama.cpp can run a file."""
    from mlx_lora import events
    from mlx_lora.child import Child
    from mlx_lora.jobs import LlamaJob

    child = Child(LlamaJob(model=file, texts=("a",), rows=((1, 2),), logits=f"{file}.f32"))
    for _ in child.read():
        pass
    outcome = child.outcome()
    return "runs" if isinstance(outcome, events.Finished) else outcome.why


def told(rows: list[dict[str, Any]]) -> list[str]:
    """Two tables a group: how far off, and what it takes."""
    lines = []
    for title, formats in GROUPS.items():
        heads = [f"{form} {quant}".strip() for form, quant in formats]
        for what, cell in (
            ("largest \\|Δ log p\\|, same next token, mean KL (nats)", _distance),
            ("MB, seconds in all, peak MB, writing : copying the same bytes", _cost),
        ):
            lines += ["", f"**{title}**: {what}", "", f"| | base | {' | '.join(heads)} |"]
            lines.append("|---" * (len(heads) + 2) + "|")
            for model, base in dict.fromkeys((row["model"], row["base"]) for row in rows):
                own = {
                    (row["format"], row["quant"]): cell(row)
                    for row in rows
                    if (row["model"], row["base"]) == (model, base)
                }
                cells = [own.get(pair, "") for pair in formats]
                if any(cells):
                    lines.append(f"| {model} | {base} | {' | '.join(cells)} |")
    return lines


def _distance(row: dict[str, Any]) -> str:
    if "largest" not in row:
        return f"FAILED: {row.get('error') or row.get('words')}"
    return f"{row['largest']:.2g}, {row['top1']:.1%}, {row['kl']:.1g}"


def _cost(row: dict[str, Any]) -> str:
    if "bytes" not in row:
        return "FAILED"
    # of less than a megabyte the copy is over before it can be measured
    told = row["writing"] and row["bytes"] > 1e6
    ratio = f"{row['writing'] / row['copying']:.1f}" if told else "-"
    return f"{row['bytes'] / 1e6:.3g}, {row['seconds']:.1f}, {row['peak'] / 1e6:.0f}, {ratio}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("export-table.md"))
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    began, load = time.perf_counter(), os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        if options.peers:
            lines = peers(Path(folder))
        else:
            keep = options.out.with_suffix(".json")
            rows = table(options.only.split(","), Path(folder), keep)
            loads = sorted(row["load"] for row in rows)
            lines = [
                f"{len(rows)} exports, {sum(row['exit'] != 0 for row in rows)} failed, in "
                f"{(time.perf_counter() - began) / 60:.0f} minutes on {os.cpu_count()} cores; load "
                f"average {load[0]:.1f} before, {loads[len(loads) // 2]:.1f} in the middle.",
                *told(rows),
            ]
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
