"""`models search|info|download|token|offline` and `train --download`, as processes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, Repository, environment, point_at, serve

from mlx_lora.cli import main

ROOT = Path(__file__).parents[2]
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
FACTS = {"config": LLAMA, "tags": ["safetensors", "license:mit"], "downloads": 12}
CANARY = "hf_canary_0123456789"


def model(folder: Path) -> Repository:
    return Repository({path.name: path.read_bytes() for path in folder.iterdir()}, **FACTS)


def run(
    server: Hub, folder: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT, env=environment(server.url, folder, **more),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_found_looked_at_downloaded(tmp_path: Path, demo_model: Path) -> None:
    with serve({"anna/tiny-llama": model(demo_model)}, "models") as server:
        found = run(server, tmp_path, "models", "search", "tiny", "--json")
        assert json.loads(found.stdout)[0]["repository"] == "anna/tiny-llama", found.stderr
        missing = run(server, tmp_path, "train", "--model", "anna/tiny-llama", "--data", "demo")
        assert missing.returncode == 2
        assert "understudy models download anna/tiny-llama" in missing.stderr
        done = run(server, tmp_path, "models", "download", "anna/tiny-llama")
        assert (done.returncode, done.stderr) == (0, "")
        assert "is on this machine" in done.stdout
        shown = run(server, tmp_path, "models", "info", "anna/tiny-llama").stdout
        assert "7.1 MB, all of it on this machine" in shown
        assert "mit" in shown


@pytest.mark.slow
def test_train_downloads_where_it_is_told_to(tmp_path: Path, demo_model: Path) -> None:
    with serve({"anna/tiny-llama": model(demo_model)}, "models") as server:
        done = run(
            server, tmp_path, "train", "--model", "anna/tiny-llama", "--data", "demo", "--download",
            "--steps", "1", "--max-length", "32", "--batch-size", "1", "--eval-rows", "1", "--json",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    reasons = [event["reason"] for event in events if event["type"] == "finished"]
    assert reasons == ["done", "done"]


def test_offline_and_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))

    def say(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        return code, "".join(capsys.readouterr())

    with serve({"a/llama": Repository({}, **FACTS)}, "models") as server:
        point_at(server, tmp_path / "cache", monkeypatch)
        code, words = say("models", "offline", "on")
        assert (code, "no connection" in words) == (0, True)
        code, words = say("models", "search", "llama")
        assert (code, server.asked) == (2, [])
        assert "understudy models offline off" in words
        assert say("models", "offline", "maybe")[0] == 2
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "Still offline: HF_HUB_OFFLINE is set" in say("models", "offline", "off")[1]
        monkeypatch.delenv("HF_HUB_OFFLINE")
        code, words = say("models", "search", "llama")
        assert (code, "a/llama" in words, "12" in words) == (0, True, True)
        assert "Nothing" in say("models", "search", "quite-another")[1]


def test_a_token_from_stdin_where_nothing_guards_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import keyring
    from keyring.backends import fail

    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(keyring, "get_keyring", fail.Keyring)
    monkeypatch.setattr(sys, "stdin", io.StringIO(CANARY + "\n"))
    assert main(["models", "token", "set"]) == 2
    words = "".join(capsys.readouterr())
    assert words.startswith("error[no_keychain]")
    assert "canary" not in words
    assert main(["models", "token", "forget"]) == 0
    assert "no token of ours" in capsys.readouterr().out


def test_the_token_is_nowhere(tmp_path: Path, demo_model: Path) -> None:
    """On disk, in the events, in what is printed, in the arguments of any process."""
    made = model(demo_model)
    made.gated, made.token, made.rate = True, CANARY, 8_000_000
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(place.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with serve({"anna/tiny-llama": made}, "models") as server:
            told = run(server, tmp_path, "models", "token", "show-source", HF_TOKEN=CANARY)
            done = run(
                server, tmp_path, "models", "download", "anna/tiny-llama", "--json",
                HF_TOKEN=CANARY, HF_DEBUG="1",
            )  # fmt: skip
            made.token = "hf_another"
            made.files["model-extra.safetensors"] = b"x" * 9000
            refused = run(
                server, tmp_path, "models", "download", "anna/tiny-llama", HF_TOKEN=CANARY
            )
    finally:
        over.set()
        watcher.join()
    assert done.returncode == 0, done.stderr
    assert told.stdout == "In use: HF_TOKEN in the environment.\n"
    assert refused.returncode == 2
    assert "HF_TOKEN in the environment" in refused.stderr
    assert {token for _, path, token in server.asked if "resolve" in path} == {f"Bearer {CANARY}"}
    assert not [words for words in seen if b"canary" in words]
    if sys.platform == "linux":
        assert any(b"--worker" in words for words in seen)
    for process in (told, done, refused):
        assert "canary" not in process.stdout + process.stderr
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert not [path for path in kept if b"canary" in path.read_bytes()]


JOB = """
import sys
from mlx_lora import worker
code = worker.main()
heavy = {"mlx", "numpy", "tokenizers", "transformers"} & {n.partition(".")[0] for n in sys.modules}
sys.exit(code or (9 if heavy else 0))
"""


@pytest.mark.slow
def test_the_job_loads_no_engine_and_stops_when_told(tmp_path: Path, demo_model: Path) -> None:
    made = model(demo_model)
    made.rate = 3_000_000
    with serve({"anna/tiny": made}, "models") as server:
        job = {"type": "download", "model": "anna/tiny", "root": str(tmp_path / "home")}

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", JOB], env=environment(server.url, tmp_path), text=True,
                cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            say(process, job)
            return process

        def say(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
            assert process.stdin
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

        def read(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
            assert process.stdout
            events = []
            for line in process.stdout:
                events.append(json.loads(line))
                if events[-1].get("name") == "downloading" and events[-1]["done"] > 1_000_000:
                    say(process, {"type": "stop"})
            return events

        with start() as first:
            events = read(first)
        assert (first.returncode, events[-1]["reason"]) == (0, "stopped")
        before = server.sent
        assert 1_000_000 < before < 6_000_000
        with start() as second:
            assert second.stdout
            events = [json.loads(line) for line in second.stdout]
        assert (second.returncode, events[-1]["reason"]) == (0, "done")
        assert any(event.get("eta") for event in events)
        assert server.sent - before < 7_200_000 - before * 0.9


@pytest.mark.slow
def test_ctrl_c_keeps_what_has_arrived(tmp_path: Path, demo_model: Path) -> None:
    import signal

    made = model(demo_model)
    made.rate = 2_000_000
    with serve({"anna/tiny": made}, "models") as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "models", "download", "anna/tiny", "--json"],
            cwd=ROOT, env=environment(server.url, tmp_path),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            if json.loads(line).get("done", 0) > 500_000:
                process.send_signal(signal.SIGINT)
                break
        process.communicate(timeout=60)
        assert process.returncode == 130
        assert [*(tmp_path / "cache").rglob("*.incomplete")]
