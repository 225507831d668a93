"""Folders that cannot be written, runs that are not there, names that try to get out."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bad_inputs.case import Case, text, train

if TYPE_CHECKING:
    from bad_inputs.case import Make, Places

_FOREIGN = text('[params]\ntitle = "somebody\'s own settings"\n', "site/config.toml")


def _run_copy(change: str = "", content: str | bytes = "") -> Make:
    """A copy of the finished run, outside the data root, with one file replaced or taken out."""

    def make(places: Places) -> None:
        folder = places.work / "run"
        shutil.copytree(places.run, folder)
        if change and content:
            data = content if isinstance(content, bytes) else content.encode()
            (folder / change).write_bytes(data)
        elif change:
            path = folder / change
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def _unfinished(file: str, old: str, new: str) -> Make:
    """A copy of the run that has not ended, with words of one of its files changed."""

    def make(places: Places) -> None:
        _run_copy("events.jsonl")(places)
        folder = places.work / "run"
        shutil.rmtree(folder / "adapter")
        for path in sorted(folder.glob(file)):
            path.write_text(path.read_text().replace(places.fill(old), places.fill(new)))

    return make


def _truncated(places: Places) -> None:
    """A run whose checkpoints are all damaged."""
    _unfinished("config.toml", "x", "x")(places)
    for path in (places.work / "run" / "checkpoints").glob("*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])


_HELD: list[object] = []


def _held(places: Places) -> None:
    """A run another process works on."""
    _unfinished("config.toml", "x", "x")(places)
    file = Path(places.work / "run" / ".lock").open("a")  # noqa: SIM115  (held until the test ends)
    fcntl.flock(file, fcntl.LOCK_EX)
    _HELD.append(file)


def release() -> None:
    """Let go of what `_held` holds."""
    while _HELD:
        _HELD.pop().close()  # type: ignore[attr-defined]


_OUT = [
    Case("out: a folder", train("--out", "{work}"), ["exists", "already there", "another name"]),
    Case("out: the folder we are in", train("--out", "."), ["exists"]),
    Case("out: empty", train("--out", ""), ["exists"]),
    Case("out: a file", train("--out", "{rows}"), ["exists"]),
    Case("out: another run", train("--out", "{run}"), ["exists"]),
    Case("out: the model", train("--out", "{model}"), ["exists"]),
    Case("out: inside a file", train("--out", "{rows}/run"), ["storage", "run", "directory"]),
    Case("out: deep inside a file", train("--out", "{rows}/a/b/run"), ["storage", "directory"]),
    Case("out: a name too long", train("--out", "{work}/" + "n" * 300), ["storage", "long"]),
    Case("out: the root", train("--out", "/"), ["exists"]),
    Case("out: a device", train("--out", "/dev/null"), ["exists"]),
    Case("out: inside /proc", train("--out", "/proc/run"), ["storage"]),
    Case("out: a link to a folder", train("--out", "{work}/l"), ["exists"], lambda p: (p.work / "l").symlink_to(p.run)),
    Case("out: a link to nothing", train("--out", "{work}/l"), ["exists"], lambda p: (p.work / "l").symlink_to(p.work / "x")),
    Case("data-dir: a file", ["--data-dir", "{rows}", *train()], ["storage", "irectory"]),
    Case("data-dir: inside a file", ["--data-dir", "{rows}/x", *train()], ["storage", "irectory"]),
    Case("data-dir: inside /proc", ["--data-dir", "/proc/x", *train()], ["storage"]),
    Case("data-dir: a device", ["--data-dir", "/dev/null", *train()], ["storage", "irectory"]),
]  # fmt: skip

_NAMES = [
    "no-such-run", "", ".", "..", "../..", "../../etc", "/", "/etc", "~", "~nosuchuser/run", "*", "?*", "runs",
    "../runs", "{root}", "{root}/runs", "{run}/..", "{run}/adapter", "{run}/checkpoints", "{run}/config.toml",
    "{work}", "{rows}", "{model}", "a b\nc",
]  # fmt: skip
_RUNS = [
    Case(f"runs {command} {name!r}", ["runs", command, name, *more], ["no_such_run", "no run folder"])
    for command, more in (("show", ()), ("delete", ("--yes",)))
    for name in _NAMES
]  # fmt: skip
_RUNS += [
    Case("runs show: a name too long", ["runs", "show", "n" * 300], ["storage", "too long", "shorter name"]),
    Case("runs delete: a name too long", ["runs", "delete", "n" * 300, "--yes"], ["storage", "too long"]),
    Case("resume: missing", ["resume", "no-such-run"], ["no_such_run", "no-such-run"]),
    Case("compare: missing", ["compare", "no-such-run", "--prompt", "x"], ["no_such_run"]),
    Case("evaluate: missing run", ["evaluate", "no-such-run"], ["no_such_run"]),
    Case("runs delete: nobody to say yes", ["runs", "delete", "{run}"], ["bad_option", "--yes"]),
    Case("runs delete: somebody's settings", ["runs", "delete", "{work}/site", "--yes"], ["damaged_run", "site"], _FOREIGN),
    Case("runs show: somebody's settings", ["runs", "show", "{work}/site"], ["damaged_run"], _FOREIGN),
    Case("resume: somebody's settings", ["resume", "{work}/site"], ["damaged_run"], _FOREIGN),
    Case("compare: somebody's settings", ["compare", "{work}/site"], ["damaged_run"], _FOREIGN),
    Case("runs delete: upwards from a run", ["runs", "delete", "{run}/adapter/../..", "--yes"], ["no_such_run"]),
    Case("resume: finished", ["resume", "{run}"], ["finished", "already finished", "understudy compare"]),
    Case("runs show: record broken", ["runs", "show", "{work}/run"], ["damaged_run", "config.toml"], _run_copy("config.toml", "[config")),
    Case("runs show: record empty", ["runs", "show", "{work}/run"], ["damaged_run"], _run_copy("config.toml", " ")),
    Case("runs show: record binary", ["runs", "show", "{work}/run"], ["damaged_run"], _run_copy("config.toml", b"\xff\xfe")),
    Case("runs show: record of a number", ["runs", "show", "{work}/run"], ["bad_option", "group of settings"], _run_copy("config.toml", "config = 3")),
    Case("runs show: record deep", ["runs", "show", "{work}/run"], ["damaged_run"], _run_copy("config.toml", "a = " + "[" * 5000)),
    Case("resume: record without settings", ["resume", "{work}/run"], ["damaged_run"], _run_copy("config.toml", "x = 1")),
    Case("compare: no adapter yet", ["compare", "{work}/run", "--prompt", "x"], ["no_adapter", "understudy resume"], lambda p: (_unfinished("config.toml", "x", "x")(p), shutil.rmtree(p.work / "run" / "checkpoints"))),
    Case("resume: worked on", ["resume", "{work}/run"], ["busy", "another Understudy"], _held, late=True),
    Case("runs delete: worked on", ["runs", "delete", "{work}/run", "--yes"], ["busy", "another Understudy"], _held),
    Case("resume: data changed", ["resume", "{work}/run"], ["data_changed", "old file back"], _unfinished("config.toml", 'data_sha256 = "', 'data_sha256 = "0'), late=True),
    Case("resume: data gone", ["resume", "{work}/run"], ["no_such_data"], _unfinished("config.toml", 'source = "{rows}"', 'source = "/no/rows.jsonl"'), late=True),
    Case("resume: model gone", ["resume", "{work}/run"], ["no_such_model"], _unfinished("config.toml", "{model}", "/no/model"), late=True),
    Case("resume: model changed", ["resume", "{work}/run"], ["model_changed", "old files back"], _unfinished("config.toml", 'base_fingerprint = "', 'base_fingerprint = "0'), late=True),
    Case("resume: other rank", ["resume", "{work}/run"], ["wrong_checkpoint", "trainable tensors"], _unfinished("config.toml", "rank = 8", "rank = 4"), late=True),
    Case("resume: every checkpoint damaged", ["resume", "{work}/run"], ["damaged_checkpoint", "not the file that was saved"], _truncated, late=True),
    Case("resume: manifest broken", ["resume", "{work}/run"], ["damaged_checkpoint", "manifest.json"], _unfinished("checkpoints/*/manifest.json", "{", ""), late=True),
]  # fmt: skip

CASES = [*_OUT, *_RUNS]
