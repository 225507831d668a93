"""`understudy export` as scripts rely on it: places, events, codes, what is refused, Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trial
from bad_inputs.inline import InlineChild

from mlx_lora import cli, events
from mlx_lora.cli import running
from mlx_lora.export import export as export_module
from mlx_lora.export.formats import FORMATS
from mlx_lora.runs import Run

Ask = Callable[..., tuple[int, str, str]]
# what an export folder holds beside README.md and export.json
_FILES = {
    "mlx": {"adapters.safetensors", "adapter_config.json"},
    "peft": {"adapter_model.safetensors", "adapter_config.json"},
    "gguf-lora": {"stories260k-lora-f32.gguf"},
    "gguf": {"stories260k-f16.gguf"},
    "hf": {"model.safetensors", "config.json", "tokenizer.json"},
    "mlx-fused": {"model.safetensors", "config.json", "tokenizer.json"},
    "ollama": {"stories260k-f16.gguf", "Modelfile"},
}
_OURS = {"README.md", "export.json"}


class Trained(msgspec.Struct, frozen=True):
    """A finished run, an unfinished copy of it, and what made them."""

    root: Path
    model: Path
    run: Path
    unfinished: Path


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory, stories: Path) -> Trained:
    """A run of a few steps on a real small model."""
    folder = tmp_path_factory.mktemp("to-export")
    data, root, run = trial.write_play(folder), folder / "home", folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Child", InlineChild)
        arguments = ["--model", stories, "--data", data, "--out", run, "--steps", 6]
        more = ["--save-every", 3, "--max-length", 64, "--learning-rate", 0.02]
        assert cli.main(["--data-dir", *map(str, (root, "train", *arguments, *more))]) == 0
    unfinished = folder / "unfinished"
    shutil.copytree(run, unfinished)
    shutil.rmtree(unfinished / "adapter")
    log = unfinished / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for line in lines if b'"finished"' not in line))
    return Trained(root, stories, run, unfinished)


@pytest.fixture
def ask(
    exported_run: Trained, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """An export in this process: (code, stdout, stderr)."""
    monkeypatch.setattr(running, "Child", InlineChild)
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        words = ("--data-dir", exported_run.root, "export", *arguments)
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


def state_of(run: Path) -> dict[str, Any]:
    """Everything its events add up to but its exports."""
    state: dict[str, Any] = msgspec.to_builtins(Run(run).state())
    return {key: value for key, value in state.items() if key != "exports"}


def said(out: str) -> list[events.Event]:
    """What --json printed; every line is an event."""
    found = [events.decode(line.encode()) for line in out.splitlines()]
    assert None not in found
    return [event for event in found if event is not None]


def is_whole(folder: Path) -> dict[str, Any]:
    """The facts of an export whose files are those it names, of the sizes it names."""
    facts: dict[str, Any] = json.loads((folder / "export.json").read_bytes())
    sizes = {p.name: p.stat().st_size for p in folder.iterdir() if p.name not in _OURS}
    assert facts["files"] == sizes
    assert "# " in (folder / "README.md").read_text()
    return facts


def refused(answer: tuple[int, str, str], code: str, *words: str) -> None:
    """Exit code 2 and the one line of the contract."""
    number, out, err = answer
    assert number == 2, (out, err)
    (line,) = err.splitlines()
    assert line.startswith(f"error[{code}] "), line
    assert " Fix: " in line
    assert "Traceback" not in out + err
    for word in words:
        assert word in line


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_in_its_place(form: str, exported_run: Trained, ask: Ask) -> None:
    before = state_of(exported_run.run)
    code, out, err = ask(exported_run.run, "--format", form, "--json")
    assert (code, err) == (0, "")
    *_, report, end = said(out)
    assert isinstance(report, events.Report)
    assert report.kind == "export"
    assert isinstance(end, events.Finished)
    assert end.reason == "done"
    default = FORMATS[form].quants[:1]
    folder = exported_run.run / "exports" / "-".join((form, *default))
    assert Path(report.data["out"]) == folder
    facts = is_whole(folder)
    assert _FILES[form] <= facts["files"].keys()
    assert facts["format"] == form
    assert facts["by"] == ("llama.cpp" if "gguf" in form or form == "ollama" else "re-read")
    assert facts["own_rows"]
    assert facts["difference"]["positions"] > 100
    assert facts["words"] == end.result["verdict"] == report.data["words"]
    # kept in the run's own log, which says nothing else new about the run
    *_, kept = Run(exported_run.run).events()
    assert isinstance(kept, events.Report)
    assert kept.data == facts
    assert state_of(exported_run.run) == before
    assert trial.leftovers(exported_run.run) == []


def test_the_run_is_shown_after_an_export(
    exported_run: Trained, ask: Ask, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(2):
        assert ask(exported_run.run, "--format", "mlx", "--out", tmp_path / str(number))[0] == 0
        assert cli.main(["runs", "show", str(exported_run.run)]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        assert "finished" in out


def test_a_person_reads_where_and_what(exported_run: Trained, ask: Ask, tmp_path: Path) -> None:
    code, out, err = ask(exported_run.run, "--format", "peft", "--out", tmp_path / "new" / "x")
    assert (code, err) == (0, "")
    assert f"Wrote    {tmp_path / 'new' / 'x'} (" in out
    assert "the same as in the app" in out
    is_whole(tmp_path / "new" / "x")


@pytest.mark.parametrize("form", ["gguf", "gguf-lora"])
def test_one_file_where_one_is_asked_for(
    form: str, exported_run: Trained, ask: Ask, tmp_path: Path
) -> None:
    path = tmp_path / "part.gguf"
    arguments = (exported_run.run, "--format", form, "--no-verify", "--out", path)
    code, _, err = ask(*arguments)
    assert (code, err) == (0, "")
    assert {p.name for p in tmp_path.glob("*")} == {
        "part.gguf", "part.README.md", "part.export.json",
    }  # fmt: skip
    facts = json.loads((tmp_path / "part.export.json").read_bytes())
    assert facts["files"] == {"part.gguf": path.stat().st_size}
    assert "part.gguf" in (tmp_path / "part.README.md").read_text()
    assert path.read_bytes()[:4] == b"GGUF"
    refused(ask(*arguments), "exists", "--overwrite")
    number = path.stat().st_ino
    assert ask(*arguments, "--overwrite")[0] == 0
    assert path.stat().st_ino != number
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("form", ["mlx", "peft", "hf", "mlx-fused", "ollama"])
def test_a_folder_is_no_file(form: str, exported_run: Trained, ask: Ask, tmp_path: Path) -> None:
    out = tmp_path / "part.gguf"
    refused(ask(exported_run.run, "--format", form, "--out", out), "bad_option", "folder")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_on_a_model(exported_run: Trained, ask: Ask, tmp_path: Path) -> None:
    log = (exported_run.run / "events.jsonl").read_bytes()
    named = ("--model", exported_run.model, "--adapter", exported_run.run / "adapter")
    refused(ask(*named, "--format", "peft"), "bad_option", "--out")
    code, _, err = ask(*named, "--format", "peft", "--out", tmp_path / "a")
    assert (code, err) == (0, "")
    facts = is_whole(tmp_path / "a")
    assert facts["own_rows"] is False  # judged on texts of our own
    assert (exported_run.run / "events.jsonl").read_bytes() == log
    # an export in mlx-lm's format is an adapter again
    assert ask(exported_run.run, "--format", "mlx", "--no-verify", "--out", tmp_path / "b")[0] == 0
    again = ("--model", exported_run.model, "--adapter", tmp_path / "b", "--out", tmp_path / "c")
    assert ask(*again, "--format", "peft", "--no-verify")[0] == 0
    weights = [(tmp_path / n / "adapter_model.safetensors").read_bytes() for n in "ac"]
    assert weights[0] == weights[1]


def test_an_unfinished_run_gives_its_best_checkpoint(
    exported_run: Trained, ask: Ask, tmp_path: Path
) -> None:
    code, _, err = ask(exported_run.unfinished, "--format", "mlx", "--out", tmp_path / "a")
    assert (code, err) == (0, "")
    is_whole(tmp_path / "a")
    assert "Steps: unfinished" in (tmp_path / "a" / "README.md").read_text()
    best = next((exported_run.unfinished / "checkpoints").glob("*/trainable.safetensors"))
    assert trial.tensors(tmp_path / "a" / "adapters.safetensors").keys() == (
        trial.tensors(best).keys()
    )


def test_the_older_form_for_ollama(exported_run: Trained, ask: Ask, tmp_path: Path) -> None:
    named = (exported_run.run, "--format", "ollama", "--legacy-adapter", "--out", tmp_path / "a")
    code, _, err = ask(*named)
    assert (code, err) == (0, "")
    facts = is_whole(tmp_path / "a")
    assert {"adapter.gguf", "Modelfile", "stories260k-f16.gguf"} == facts["files"].keys()
    assert facts["by"] == "llama.cpp"
    modelfile = (tmp_path / "a" / "Modelfile").read_text()
    assert "ADAPTER ./adapter.gguf" in modelfile
    other = (exported_run.run, "--format", "gguf", "--legacy-adapter")
    refused(ask(*other), "bad_option", "--legacy-adapter")


def test_what_was_not_verified_says_so(exported_run: Trained, ask: Ask, tmp_path: Path) -> None:
    code, out, _ = ask(exported_run.run, "--no-verify", "--out", tmp_path / "a", "--quant", "q8_0")
    assert code == 0
    assert "Not verified." in out
    facts = is_whole(tmp_path / "a")
    assert facts["by"] == "nobody"
    assert facts["difference"] is None
    assert "Not verified." in (tmp_path / "a" / "README.md").read_text()


def test_an_earlier_export_is_replaced_whole(
    exported_run: Trained, ask: Ask, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    named = (exported_run.run, "--no-verify", "--out", out)
    assert ask(*named, "--format", "peft")[0] == 0
    (out / "old-note").write_text("x")
    refused(ask(*named, "--format", "mlx"), "exists", "--overwrite")
    assert (out / "old-note").exists()
    assert ask(*named, "--format", "mlx", "--overwrite")[0] == 0
    assert is_whole(out)["files"].keys() == _FILES["mlx"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def place(name: str, trained: Trained, work: Path) -> Path:
    """A place nothing of ours may ever be put in."""
    (work / "notes").mkdir()
    (work / "notes" / "mine.txt").write_text("x")
    (work / "mine.gguf").write_bytes(b"GGUF of somebody else")
    (work / "ours").mkdir()
    (work / "ours" / "export.json").write_text("{}")
    shutil.copytree(trained.run / "adapter", work / "ours" / "adapter")
    (work / "other").mkdir()
    (work / "other" / "export.json").write_text("{}")
    (work / "link").symlink_to(work / "other")
    (work / "nowhere").symlink_to(work / "nothing")
    return {
        "a folder of somebody": work / "notes",
        "a file": work / "notes" / "mine.txt",
        "a GGUF file that is not ours": work / "mine.gguf",
        "a link to an export": work / "link",
        "a link to nothing": work / "nowhere",
        "the base": trained.model,
        "inside the base": trained.model / "exports",
        "the adapter": work / "ours" / "adapter",
        "inside the adapter": work / "ours" / "adapter" / "a" / "b",
        "around the adapter": work / "ours",
        "the run": trained.run,
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "a folder of somebody", "a file", "a GGUF file that is not ours", "a link to an export",
        "a link to nothing", "the base", "inside the base", "the adapter", "inside the adapter",
        "around the adapter", "the run",
    ],
)  # fmt: skip
def test_nothing_else_is_ever_replaced(
    name: str, exported_run: Trained, ask: Ask, tmp_path: Path
) -> None:
    out = place(name, exported_run, tmp_path)
    trees = (tmp_path, exported_run.model, exported_run.run)
    before = [sorted(tree.rglob("*")) for tree in trees]
    adapter = tmp_path / "ours" / "adapter"
    if name == "the run":
        adapter = exported_run.run / "adapter"
    named = ("--model", exported_run.model, "--adapter", adapter, "--out", out)
    code, said, err = ask(*named, "--no-verify", "--overwrite")
    inside = "base" in name or "adapter" in name or name == "the run"
    refused((code, said, err), "bad_option" if inside else "exists")
    assert [sorted(tree.rglob("*")) for tree in trees] == before


def test_too_late_to_stop(
    exported_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that comes when the export is in place does not call it stopped."""
    from mlx_lora import jobs
    from mlx_lora.config import ModelConfig
    from mlx_lora.control import Control

    monkeypatch.chdir(tmp_path)
    job = jobs.ExportJob(
        model=ModelConfig(source=str(exported_run.model)),
        adapter=str(exported_run.run / "adapter"),
        format="peft", quant="", out=str(tmp_path / "a"), root=str(tmp_path), verify=False,
    )  # fmt: skip
    for last in ("planning", "report"):
        control, found = Control(), []
        for event in export_module.export(job, control):
            found.append(event)
            kind = "report" if isinstance(event, events.Report) else getattr(event, "name", "")
            if kind == last:
                control.stop()
        assert isinstance(found[-1], events.Finished)
        there = last == "report"
        assert found[-1].reason == ("done" if there else "stopped")
        assert (tmp_path / "a").is_dir() == there


@pytest.mark.parametrize("name", ["a", "a.gguf"])
def test_a_stop_while_nothing_is_said_leaves_nothing(
    name: str, exported_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last sign of life and the moment it is in place."""
    from mlx_lora import jobs
    from mlx_lora.config import ModelConfig
    from mlx_lora.control import Control

    monkeypatch.chdir(tmp_path)
    control, write_card = Control(), export_module.write_card

    def stopped(*arguments: Any) -> None:
        write_card(*arguments)
        control.stop()

    monkeypatch.setattr(export_module, "write_card", stopped)
    job = jobs.ExportJob(
        model=ModelConfig(source=str(exported_run.model)),
        adapter=str(exported_run.run / "adapter"), run=str(exported_run.run),
        format="gguf", quant="q8_0", out=str(tmp_path / name), root=str(tmp_path), verify=False,
    )  # fmt: skip
    log = (exported_run.run / "events.jsonl").read_bytes()
    said = list(export_module.export(job, control))
    assert said[-1] == events.Finished(reason="stopped")
    assert not any(isinstance(event, events.Report) for event in said)
    assert list(tmp_path.iterdir()) == []
    assert (exported_run.run / "events.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    "phase", ["llama_cpp", pytest.param("loading_model", marks=pytest.mark.slow)]
)
def test_ctrl_c_leaves_nothing(phase: str, exported_run: Trained, tmp_path: Path) -> None:
    """The real command, interrupted in the middle."""
    out, log = tmp_path / "out", (exported_run.run / "events.jsonl").read_bytes()
    process = trial.Process(
        ("--data-dir", str(exported_run.root), "export", str(exported_run.run),
         "--json", "--out", str(out)),
        tmp_path / "home",
    )  # fmt: skip
    process.wait_for(lambda e: isinstance(e, events.Phase) and e.name == phase)
    hello = next(e for e in process.said if isinstance(e, events.Hello))
    # the worker is in a session of its own: the command alone hears Ctrl-C
    process.process.send_signal(signal.SIGINT)
    assert process.wait() == 130, process.stderr
    words = "Stopping, nothing half-written is kept; press Ctrl-C again to end at once."
    assert process.stderr.strip() == words
    assert isinstance(process.said[-1], events.Finished)
    assert process.said[-1].reason == "stopped"
    assert trial.is_gone(hello.pid)
    assert list(tmp_path.iterdir()) == []
    assert (exported_run.run / "events.jsonl").read_bytes() == log


@pytest.mark.slow
def test_measured_and_not_written(exported_run: Trained, ask: Ask, tmp_path: Path) -> None:
    before = sorted(exported_run.run.rglob("*"))
    named = (exported_run.run, "--format", "mlx-fused", "--measure")
    code, out, err = ask(*named)
    assert (code, err) == (0, "")
    assert "same next token" in out
    assert "Wrote" not in out
    assert sorted(exported_run.run.rglob("*")) == before
    assert trial.leftovers(exported_run.root) == []
    # kept in the run's log, so that it need not be measured again
    kept = Run(exported_run.run).state().fuse_loss
    assert [line["bits"] for line in kept["lines"]] == [16, 8, 6, 4]
    assert kept["step"] == 6
    assert kept["lines"][0]["difference"]["top1"] >= kept["lines"][-1]["difference"]["top1"]
    code, out, _ = ask(*named, "--json")
    report = next(e for e in said(out) if isinstance(e, events.Report))
    assert report.data == kept
    refused(ask(exported_run.run, "--measure"), "bad_option", "--format mlx-fused")
    refused(ask(*named, "--quant", "4"), "bad_option", "--quant")
    refused(ask(*named, "--out", tmp_path / "a"), "bad_option", "--out")


def test_a_measurement_stops_when_told(exported_run: Trained, tmp_path: Path) -> None:
    from mlx_lora.control import Control
    from mlx_lora.export.measure import measure
    from mlx_lora.export.order import measure_job
    from mlx_lora.trained import trained_run

    run = Run(exported_run.run)
    log = (run.folder / "events.jsonl").read_bytes()
    control, found = Control(), []
    for event in measure(measure_job(tmp_path, trained_run(run), run), control):
        found.append(event)
        if isinstance(event, events.Phase) and event.name == "measuring_8":
            control.stop()
    assert found[-1] == events.Finished(reason="stopped")
    assert list(tmp_path.iterdir()) == []
    assert (run.folder / "events.jsonl").read_bytes() == log
