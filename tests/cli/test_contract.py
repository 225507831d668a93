"""The command line as scripts rely on it, on a run that is really trained (architecture.md)."""
# ruff: noqa: E501

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bad_inputs.inline import InlineChild

from mlx_lora import __version__, cli, events
from mlx_lora.cli import running
from mlx_lora.runs import RunStore

ROOT = Path(__file__).parents[2]
Ask = Callable[..., tuple[int, str, str]]
Run = Callable[..., subprocess.CompletedProcess[str]]
_COMMANDS = {
    (): ["train", "resume", "demo", "generate", "compare", "evaluate", "doctor", "runs", "data"],
    ("train",): [
        "--model", "--data", "--out", "--config", "--preset", "--bits", "--rank", "--alpha", "--dropout",
        "--targets", "--layers", "--epochs", "--steps", "--batch-size", "--max-length", "--learning-rate",
        "--grad-accumulation", "--grad-checkpoint", "--val-fraction", "--eval-every", "--save-every",
        "--sample-every", "--seed", "--json", "--train-on",
    ],
    ("resume",): ["RUN_DIR", "--json"],
    ("demo",): ["--json"],
    ("generate",): [
        "--model", "--adapter", "--prompt", "--raw", "--max-tokens", "--temperature", "--top-p",
        "--repetition-penalty", "--seed", "--bits", "--json",
    ],
    ("compare",): ["RUN_DIR", "--prompt", "--model", "--adapter", "--seed", "--json"],
    ("evaluate",): ["RUN_DIR", "--data", "--model", "--adapter", "--json"],
    ("doctor",): ["--json"],
    ("runs",): ["list", "show", "delete"],
    ("runs", "list"): ["--json"],
    ("runs", "show"): ["RUN_DIR", "--json"],
    ("runs", "delete"): ["RUN_DIR", "--yes"],
    ("data",): ["check", "preview"],
    ("data", "check"): ["DATA", "--model", "--json"],
    ("data", "preview"): ["DATA", "--model", "--row", "--json"],
}  # fmt: skip


class Trained(msgspec.Struct, frozen=True):
    """A run, what made it, and what was printed while it was."""

    root: Path
    name: str
    folder: Path
    model: Path
    rows: Path
    lines: list[dict[str, Any]]


def _process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, stories: Path) -> Trained:
    """A small run, trained by the real command line."""
    root = tmp_path_factory.mktemp("contract") / "home"
    rows = root.parent / "rows.jsonl"
    sentences = [{"text": f"Day {n}: the dog and the ball went home."} for n in range(24)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in sentences))
    done = _process(
        "train", "--model", stories, "--data", rows, "--steps", 6, "--learning-rate", "0.01",
        "--save-every", 3, "--prompt", "Day 3", "--json", UNDERSTUDY_HOME=str(root),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = RunStore(root).list()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return Trained(root, run.name, run.folder, stories, rows, lines)


@pytest.fixture
def ask(
    trained: Trained, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """A command in this process on the trained run's data root: (code, stdout, stderr)."""
    monkeypatch.setattr(running, "Child", InlineChild)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["--data-dir", str(trained.root), *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


def _rows(out: str) -> list[dict[str, Any]]:
    report = next(json.loads(line) for line in out.splitlines() if '"report"' in line)
    rows: list[dict[str, Any]] = report["data"]["rows"]
    return rows


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capfd.readouterr().out == f"understudy {__version__}\n"


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_help_names_everything(
    command: tuple[str, ...], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main([*command, "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    for name in _COMMANDS[command]:
        line = next(
            (
                line
                for line in out.splitlines()
                if re.search(rf"(?<!\S){name}(?!\S)", line) and "Usage" not in line
            ),
            "",
        )
        assert len(line.split("  ")[-1].strip()) > 8, f"{name} has no help"


def test_nothing_typed_shows_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "Commands:" in capfd.readouterr().out


def test_json_lines_are_events(trained: Trained) -> None:
    kinds = [line["type"] for line in trained.lines]
    assert kinds[0] == "hello"
    assert kinds[-1] == "finished"
    assert kinds.count("train_step") == 6
    assert {"report", "validation", "sample", "checkpoint"} <= set(kinds)
    for line in trained.lines:
        assert events.decode(json.dumps(line).encode()) is not None
    logged = [
        json.loads(line) for line in (trained.folder / "events.jsonl").read_text().splitlines()
    ]
    assert logged == trained.lines
    assert trained.lines[-1]["result"]["adapter"] == "adapter"


def test_the_run_folder_holds_no_home(trained: Trained) -> None:
    for path in trained.folder.rglob("*"):
        if path.is_file():
            assert str(Path.home()).encode() + b"/" not in path.read_bytes(), path.name


def test_runs_list_and_show(ask: Ask, trained: Trained) -> None:
    code, out, _ = ask("runs", "list", "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert (row["name"], row["status"], row["step"], row["steps"]) == (
        trained.name,
        "finished",
        6,
        6,
    )
    assert row["validation_loss"] < row["base_loss"]
    assert trained.name in ask("runs", "list")[1]
    shown = json.loads(ask("runs", "show", trained.name, "--json")[1])
    assert shown["name"] == trained.name
    assert shown == json.loads(ask("runs", "show", trained.folder, "--json")[1])
    assert "versions" in ask("runs", "show", trained.name)[1]


def test_runs_delete_takes_the_run_and_nothing_else(
    ask: Ask, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = trained.root / "runs" / "copy", tmp_path / "mine" / "run"
    for folder in (inside, outside):
        shutil.copytree(trained.folder, folder)
    beside = outside.parent / "letter.txt"
    beside.write_text("dear")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, out, _ = ask("runs", "delete", "copy")
    assert (code, inside.is_dir()) == (0, True)
    assert "Nothing was deleted" in out
    for name, folder in (("copy", inside), (outside, outside)):
        assert ask("runs", "delete", name, "--yes")[0] == 0
        assert not folder.exists()
    assert list(outside.parent.iterdir()) == [beside]
    assert trained.folder.is_dir()
    assert [p.name for p in (trained.root / "runs").iterdir()] == [trained.name]


def test_delete_of_a_link_leaves_what_it_points_to(
    ask: Ask, trained: Trained, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    shutil.copytree(trained.folder, real)
    link = trained.root / "runs" / "link"
    link.symlink_to(real)
    ask("runs", "delete", "link", "--yes")
    assert (real / "config.toml").is_file()
    assert (real / "adapter").is_dir()
    for left in (trained.root / "runs").iterdir():
        if left.is_symlink():
            left.unlink()


def test_doctor(
    ask: Ask, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = tmp_path / "hub" / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{64 * 'a'}.incomplete").write_bytes(bytes(5_000_000))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret_secret")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    code, out, _ = ask("doctor", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["runs"] == 1
    assert data["understudy"] == __version__
    assert data["free_disk_gb"] > 0
    wanted = {"mlx", "mlx-lm", "python", "machine", "device", "blas", "metal", "memory_gb", "data_folder", "model_cache", "demo"}  # fmt: skip
    assert wanted <= data.keys()
    assert (data["hub"], data["hub_token"], data["unfinished"]) == (
        "may be asked", "HF_TOKEN in the environment", "owner/name (5.0 MB)"
    )  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = ask("doctor")[1]
    assert "not asked: HF_HUB_OFFLINE is set" in said
    assert "blas" in said
    assert "hf_secret_secret" not in said + out
    assert trained.folder.is_dir()


def test_data_check(trained: Trained) -> None:
    home = {"UNDERSTUDY_HOME": str(trained.root)}
    done = _process("data", "check", trained.rows, "--model", trained.model, "--json", **home)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    (report,) = (line for line in said if line.get("kind") == "inspect")
    assert done.returncode == 0
    facts = report["data"]
    assert facts["training_rows"] + facts["validation_rows"] == 24
    assert facts["formats"] == {"text": 24}
    assert facts["prompt_style"] == "raw"


def test_evaluate_by_name_by_path_and_by_parts(ask: Ask, trained: Trained) -> None:
    code, out, _ = ask("evaluate", trained.name, "--json")
    report = next(json.loads(line) for line in out.splitlines() if '"report"' in line)["data"]
    result = trained.lines[-1]["result"]
    assert code == 0
    for who in ("base", "adapted"):
        assert report[who]["loss"] == pytest.approx(result[who]["loss"], rel=1e-4)
        assert report[who]["perplexity"] == pytest.approx(math.exp(report[who]["loss"]))
    parts = (
        "--model",
        trained.model,
        "--adapter",
        trained.folder / "adapter",
        "--data",
        trained.rows,
    )
    whole = next(
        json.loads(x) for x in ask("evaluate", *parts, "--json")[1].splitlines() if '"report"' in x
    )
    assert whole["data"]["rows"] == 24
    assert whole["data"]["adapted"]["loss"] < whole["data"]["base"]["loss"]
    table = ask("evaluate", trained.folder)[1]
    assert "perplexity" in table


def test_compare_by_name_by_path_and_by_parts(ask: Ask, trained: Trained) -> None:
    more = ("--max-tokens", 6, "--json")
    own = _rows(ask("compare", trained.name, *more)[1])
    assert [row["voice"] for row in own] == ["base", "adapted"]
    assert {row["prompt"] for row in own} == {"Day 3"}
    asked = ("--prompt", "Day 3", *more)
    assert _rows(ask("compare", trained.folder, *asked)[1]) == own
    parts = ("--model", trained.model, "--adapter", trained.folder / "adapter")
    assert _rows(ask("compare", *parts, *asked)[1]) == own
    assert (
        _rows(ask("compare", trained.folder / "adapter", "--model", trained.model, *asked)[1])
        == own
    )


def test_generate_a_row_for_every_adapter(ask: Ask, trained: Trained) -> None:
    adapter = trained.folder / "adapter"
    voices = [word for s in ("", "@0", "@1", "@-0.5") for word in ("--adapter", f"{adapter}{s}")]
    start = ("generate", "--model", trained.model, "--prompt", "Day", "--max-tokens", 8, "--json")
    plain, at_none, at_one, other = _rows(ask(*start, *voices)[1])
    (base,) = _rows(ask(*start)[1])
    assert at_none["text"] == base["text"]
    assert at_one["text"] == plain["text"]
    assert [row["voice"] for row in (base, plain, at_none)] == ["base", "adapter", "adapter@0"]
    assert other["voice"] == "adapter@-0.5"
    twice = _rows(ask(*start, *voices, "--prompt", "Night")[1])
    assert [row["prompt"] for row in twice] == ["Day"] * 4 + ["Night"] * 4
    out = ask(*start[:-1])[1]
    assert out == base["text"] + "\n"


def test_generate_the_same_with_the_same_seed(ask: Ask, trained: Trained) -> None:
    start = (
        "generate",
        "--model",
        trained.model,
        "--prompt",
        "Day",
        "--max-tokens",
        12,
        "--temperature",
        1,
    )
    first, again, other = (ask(*start, "--seed", seed)[1] for seed in (3, 3, 4))
    assert first == again != other


def test_raw_and_chat(ask: Ask, trained: Trained, tmp_path: Path) -> None:
    chat = tmp_path / "chat"
    chat.mkdir()
    for path in trained.model.iterdir():
        (chat / path.name).write_bytes(path.read_bytes())
    settings = json.loads((chat / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    settings["chat_template"] = template
    (chat / "tokenizer_config.json").write_text(json.dumps(settings))
    end = ("--prompt", "Day", "--max-tokens", 10, "--json")

    def style(*arguments: object) -> tuple[str, str]:
        out = ask("generate", *arguments, *end)[1]
        report = next(json.loads(line) for line in out.splitlines() if '"report"' in line)
        return report["data"]["style"], report["data"]["rows"][0]["text"]

    assert style("--model", chat)[0] == "chat"
    assert style("--model", trained.model)[0] == "raw"
    assert style("--model", chat, "--raw") == style("--model", trained.model)


@pytest.mark.parametrize("way", ["home", "option"])
def test_the_data_root_is_where_it_is_said_to_be(
    way: str, trained: Trained, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    chosen = ("--data-dir", trained.root) if way == "option" else ()
    home = other if way == "option" else trained.root
    done = _process(*chosen, "runs", "list", "--json", UNDERSTUDY_HOME=str(home))
    assert [row["name"] for row in json.loads(done.stdout)] == [trained.name]
    assert not other.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--rank"], 2, "error[bad_option]"),
        (["nosuch"], 2, "error[bad_option]"),
        (["runs"], 2, "error[bad_option]"),
        (["runs", "show", "nosuch"], 2, "error[no_such_run]"),
        (["train", "--model", "nosuch", "--data", "demo"], 2, "error[no_such_model]"),
        (["--version"], 0, ""),
        (["--help"], 0, ""),
    ],
)
def test_exit_codes_of_the_process(
    understudy: Run, arguments: list[str], code: int, words: str
) -> None:
    done = understudy(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == bool(words)
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error(trained: Trained) -> None:
    done = subprocess.run(
        f"{sys.executable} -m app runs show {trained.name} --json | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "UNDERSTUDY_HOME": str(trained.root)},
    )  # fmt: skip
    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_with_130(number: int, trained: Trained, tmp_path: Path) -> None:
    arguments = [
        "train",
        "--model",
        trained.model,
        "--data",
        trained.rows,
        "--steps",
        5000,
        "--json",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "app", *map(str, arguments)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "UNDERSTUDY_HOME": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if '"train_step"' in line and json.loads(line)["step"] >= 3:
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["reason"] == "stopped"
    (run,) = RunStore(tmp_path).list()
    assert run.state().status == "stopped"
    assert any(run.checkpoints.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--learning-rate", "1", "--clip", "1000000", "--alpha", "1000000"],
        ["--learning-rate", "1", "--weight-decay", "10"],
        # B stays zero and A grows ninefold each step, unseen in the loss until A is infinite
        [
            "--learning-rate",
            "0.984",
            "--weight-decay",
            "10",
            "--alpha",
            "1e-300",
            "--targets",
            "o_proj",
        ],
    ],
    ids=["hot", "decay", "unseen"],
)
def test_a_run_that_diverges_keeps_only_numbers(  # noqa: PLR0917
    understudy: Run, root: Path, shared: Path, stories: Path, tmp_path: Path, options: list[str]
) -> None:
    import mlx.core as mx

    play = tmp_path / "play.txt"
    play.write_bytes((shared / "tinyshakespeare.txt").read_bytes()[:3000])
    done = understudy(
        "train", "--model", str(stories), "--data", str(play), "--max-length", "64", "--steps", "300",
        "--batch-size", "1", "--save-every", "1", "--eval-every", "300", "--sample-every", "1000",
        "--warmup", "0", *options,
    )  # fmt: skip
    assert done.returncode in {0, 2}, done.stderr
    if done.returncode == 2:
        error = done.stderr.splitlines()[-1]
        assert error.startswith("error[diverged] ")
        assert "lower learning rate" in error
        assert "Saved: " in error
    (run,) = RunStore(root).list()
    files = list(run.folder.rglob("*.safetensors"))
    assert files
    for path in files:
        tensors: Any = mx.load(str(path))
        for name, tensor in tensors.items():
            assert bool(mx.isfinite(tensor.astype(mx.float32)).all()), f"{path.parent.name}: {name}"


@contextlib.contextmanager
def _nobody() -> Any:
    """Be a user without rights, where the tests run as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("what", ["out", "data-dir", "rows"])
def test_what_may_not_be_touched(
    what: str, trained: Trained, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(f"/tmp/understudy-test-{os.getpid()}-{what}")  # where others may look
    folder.mkdir(mode=0o755)
    try:
        model, rows, locked = folder / "model", folder / "rows.jsonl", folder / "locked"
        shutil.copytree(trained.model, model)
        model.chmod(0o755)
        shutil.copy(trained.rows, rows)
        locked.mkdir(mode=0o555)
        rows.chmod(0o000 if what == "rows" else 0o644)
        arguments = ["train", "--model", str(model), "--data", str(rows)]
        home = locked if what == "data-dir" else folder / "home"
        out = ["--out", str(locked / "run")] if what == "out" else []
        began = time.process_time()
        with _nobody():
            code = cli.main(["--data-dir", str(home / "root"), *arguments, *out])
        _, err = capfd.readouterr()
        assert code == 2, err
        code_name = "bad_data" if what == "rows" else "no_permission"
        assert err.startswith(f"error[{code_name}] "), err
        assert len(err.splitlines()) == 1
        assert time.process_time() - began < 1.0
        assert list(locked.iterdir()) == []
    finally:
        locked.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_whole(trained: Trained, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the first checkpoint does not fit."""
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -f 100; exec "$0" -m app "$@"', sys.executable, "train",
         "--model", str(trained.model), "--data", str(trained.rows), "--steps", "4", "--save-every", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "UNDERSTUDY_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error[disk_full] ")
    assert "MB free" in error
    (run,) = RunStore(tmp_path).list()
    assert not list(run.folder.rglob("*.safetensors"))
    assert "Traceback" not in done.stderr
