"""What a dataset is to a model: told without the engine, and shown as it is trained."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import events, jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.figures import histogram
from mlx_lora.data.formats import Completion, Conversation, Document, Message, Text
from mlx_lora.data.inspect import inspect
from mlx_lora.data.preview import row_pieces
from mlx_lora.data.render import Renderer
from mlx_lora.errors import UserError
from mlx_lora.models.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlx_lora.models.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
FAMILIES = ["llama3", "gemma3", "qwen3", "phi3"]
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
ANSWERS = ("In Paris,\nof course \u2014 \u4e16\u754c \U0001f600!", "x\u0301 \ta", "Ok.")


@functools.cache
def tokenizer(family: str) -> Tokenizer:
    return read_tokenizer(SHARED / "tokenizers" / family, [], 1 << 20)


def make_job(data: Path | str, model: Path | str = "demo", **settings: Any) -> jobs.InspectJob:
    row = settings.pop("row", None)
    config = DataConfig(source=str(data), **settings)
    model_config = ModelConfig(source=str(model))
    return jobs.InspectJob(model=model_config, data=config, seed=0, root="", row=row)


def said(job: jobs.InspectJob, kind: str) -> list[dict[str, Any]]:
    found = inspect(job, Control())
    return [e.data for e in found if isinstance(e, events.Report) and e.kind == kind]


def facts(job: jobs.InspectJob) -> dict[str, Any]:
    (found,) = said(job, "inspect")
    return found


def issues(found: dict[str, Any]) -> dict[str, list[int]]:
    return {f"{issue['code']}/{issue['split']}": issue["rows"] for issue in found["issues"]}


@needs_shared
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("train_on", ["completions", "last", "all"])
@pytest.mark.parametrize("limit", [2048, 31, 23])
def test_pieces_are_the_rendering_and_their_states_the_mask(
    family: str, train_on: Any, limit: int
) -> None:
    made = Renderer(tokenizer(family), limit, train_on, "2026-01-01")
    made.keeps_rest = True
    turns = [Message("user", "Where is\nthe tower?"), Message("assistant", ANSWERS[0])]
    turns += [Message("user", "caf\u00e9 \U0001f3f0?"), Message("assistant", ANSWERS[1])]
    examples = (
        Conversation(1, tuple(turns)),
        Completion(2, "Name it. \U0001f600", ANSWERS[2]),
        Text(3, ANSWERS[0] * 3),
        Document(4, f"{ANSWERS[0]} {ANSWERS[1]}\n\n" * 5),
    )
    for example in examples:
        for row in made.render(example):
            pieces = row_pieces(tokenizer(family), row)
            whole = [*row.tokens, *row.rest]
            decode = functools.partial(tokenizer(family).decode, keep_special=True)
            assert "".join(text for text, _ in pieces) == decode(whole)
            assert len(row.rest) == row.cut
            assert len(row.tokens) <= limit
            for state, learnt in (("trained", 1), ("masked", 0)):
                ids = [i for i, mark in zip(row.tokens, row.mask, strict=True) if mark == learnt]
                there = "".join(text for text, s in pieces if s == state)
                if "\ufffd" not in decode(ids):
                    assert there.replace(" ", "") == decode(ids).replace(" ", "")
            assert ("cut" in {state for _, state in pieces}) == bool(row.cut)


@needs_shared
@pytest.mark.parametrize("family", FAMILIES)
def test_the_render_path_is_the_same_with_and_without_the_rest(family: str) -> None:
    example = Completion(1, "Where is it? " * 10, "There. " * 20)
    plain, keeping = (Renderer(tokenizer(family), 60, today="2026-01-01") for _ in range(2))
    keeping.keeps_rest = True
    (a,), (b,) = plain.render(example), keeping.render(example)
    assert (a.tokens, a.mask, a.cut) == (b.tokens, b.mask, b.cut)
    assert a.rest == ()
    assert a.cut > 0
    (whole,) = Renderer(tokenizer(family), 4096, today="2026-01-01").render(example)
    assert [*b.tokens, *b.rest] == whole.tokens


def test_figures_add_up_and_issues_name_their_rows(write_rows: Callable[..., Path]) -> None:
    rows = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(30)]
    rows[4] = rows[2]
    rows[6] = {"prompt": "Nothing?", "completion": "  "}
    rows[8] = {"prompt": "Long? " * 40, "completion": "Never reached."}
    rows[10] = {"prompt": "Long?", "completion": "Reached in part. " * 30}
    found = facts(make_job(write_rows(rows), max_length=64))
    assert issues(found) == {
        "empty/train": [7], "no_target/train": [9], "cut/train": [11], "cut_answer/train": [11],
        "duplicate/train": [5], "few_validation/valid": [],
    }  # fmt: skip
    assert found["rows_read"] == 30
    assert found["training_rows"] + found["validation_rows"] == 28
    parts = (found[f"{name}_tokens"] for name in ("trained", "masked", "cut"))
    assert sum(parts) == found["tokens"]
    assert sum(found["histogram"]["counts"]) == 29
    assert found["limit"] == 64
    assert found["p95_tokens"] > found["median_tokens"]
    assert found["columns"] == ["prompt", "completion"]
    assert found["mean_tokens"] == pytest.approx(found["tokens"] / 29, abs=0.06)


def test_a_held_out_row_that_is_learnt_too_is_named(tmp_path: Path) -> None:
    for name, numbers in (("train", range(12)), ("valid", range(10, 16))):
        lines = [json.dumps({"text": f"Line number {n}."}) for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    found = facts(make_job(tmp_path))
    assert found["own_validation"]
    assert issues(found) == {"leak/valid": [1, 2]}


def test_few_rows_are_said(write_rows: Callable[..., Path]) -> None:
    few = facts(make_job(write_rows([{"text": f"Line {n}."} for n in range(9)])))
    assert [issue["code"] for issue in few["issues"]] == ["few_rows", "few_validation"]
    one = facts(make_job(write_rows([{"text": "Line."}])))
    assert [issue["code"] for issue in one["issues"]] == ["few_rows", "no_validation"]


def test_rows_are_shown_as_they_were_written(write_rows: Callable[..., Path]) -> None:
    rows = [
        {"instruction": "Do\nthis", "input": "with that", "output": "Done.", "id": 7},
        {"instruction": "Do", "input": "", "output": ""},
        {"text": "x" * 500},
    ]
    (line,) = said(make_job(write_rows(rows)), "preview")
    first, second, third = line["rows"]
    assert first["values"] == {
        "instruction": "Do \u21b5 this", "input": "with that", "output": "Done."
    }  # fmt: skip
    assert (first["row"], first["cut"], first["left_out"]) == (1, 0, "")
    assert (second["tokens"], second["left_out"]) == (0, "empty")
    assert len(third["values"]["text"]) == 160


@needs_shared
def test_a_conversation_shows_its_first_question_and_last_answer(
    write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    model = chat_model(tmp_path)
    turns = [("system", "Be brief."), ("user", "A?"), ("assistant", "a"), ("user", "B?")]
    messages = [{"role": r, "content": c} for r, c in [*turns, ("assistant", "b")]]
    job = make_job(write_rows([{"messages": messages}, {"messages": messages[:2]}]), model)
    (line,) = said(job, "preview")
    assert line["rows"][0]["values"] == {
        "system": "Be brief.", "user": "A?", "assistant": "b", "turns": "5"
    }  # fmt: skip
    assert line["rows"][1]["left_out"] == "empty"
    assert facts(job)["prompt_style"] == "chat"


def chat_model(folder: Path) -> Path:
    """The demo model with Qwen's tokenizer and a sparse weights file of 8 GB."""
    model = folder / "model"
    model.mkdir()
    shutil.copytree(SHARED / "tokenizers" / "qwen3", model, dirs_exist_ok=True)
    config = {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 1,
        "num_attention_heads": 32, "max_position_embeddings": 4096,
    }  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    size = 151936 * 4096 * 2
    entries = {
        name: {
            "dtype": "BF16",
            "shape": [151936, 4096],
            "data_offsets": [at * size, (at + 1) * size],
        }
        for at, name in enumerate(
            ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight")
        )
    }
    header = json.dumps(entries).encode()
    with (model / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 3 * size)
    return model


@needs_shared
def test_neither_weights_nor_engine_are_loaded(
    write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    job = make_job(write_rows([{"prompt": "A?", "completion": "B."}] * 12), chat_model(tmp_path))
    code = (
        "import sys, json, pathlib\n"
        "from mlx_lora import jobs, worker\n"
        "from mlx_lora.control import Control\n"
        "import msgspec\n"
        "job = msgspec.json.decode(sys.stdin.buffer.read(), type=jobs.Job)\n"
        "done = [type(e).__name__ for e in worker._work(job, Control())]\n"
        # a child's ru_maxrss begins with what its parent held: the kernel's own mark does not
        "status = pathlib.Path('/proc/self/status')\n"
        "marks = [x.split() for x in status.read_text().splitlines()] if status.exists() else []\n"
        "peak = next((int(x[1]) for x in marks if x[0] == 'VmHWM:'), 0)\n"
        "print(json.dumps([done[-1], sorted(sys.modules), peak]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=_encoded(job), capture_output=True, timeout=60,
        check=True, cwd=ROOT,
    )  # fmt: skip
    last, modules, peak = json.loads(done.stdout)
    assert last == "Finished"
    assert not {"mlx", "mlx_lm", "transformers"} & {m.partition(".")[0] for m in modules}
    assert peak * 1024 < 1e9
    assert peak or sys.platform != "linux"


def _encoded(job: jobs.InspectJob) -> bytes:
    import msgspec

    return msgspec.json.encode(job)


def test_one_row_is_shown_whole_on_request(write_rows: Callable[..., Path]) -> None:
    rows = [{"text": f"Row {n}. " * 40} for n in range(1, 80)]
    path = write_rows([*rows, {"text": ""}])
    job = make_job(path, max_length=40, row=77)
    assert said(job, "inspect") == []
    (line,) = said(job, "preview")
    (pieces,) = said(job, "pieces")
    assert [row["row"] for row in line["rows"]] == [77]
    assert pieces["row"] == 77
    assert len([p for p in pieces["pieces"] if p[1] == "cut"]) == pieces["tokens"] - 40
    assert "".join(text for text, _ in pieces["pieces"]).endswith("Row 77. <|end_of_text|>")
    assert said(make_job(path, row=80), "pieces") == []
    assert said(make_job(path, row=80), "preview")[0]["rows"][0]["left_out"] == "empty"
    with pytest.raises(UserError, match="no such row"):
        list(inspect(make_job(path, row=81), Control()))


def test_blocks_of_a_document_are_rows(tiny_text: Path) -> None:
    found = facts(make_job(tiny_text, max_length=64))
    total = found["training_rows"] + found["validation_rows"]
    previews = [
        row for line in said(make_job(tiny_text, max_length=64), "preview") for row in line["rows"]
    ]
    assert [row["row"] for row in previews] == list(range(1, total + 1))
    last = make_job(tiny_text, max_length=64, row=total)
    (pieces,) = said(last, "pieces")
    assert "".join(text for text, _ in pieces["pieces"]).endswith("<|end_of_text|>")


def test_lines_stay_short(write_rows: Callable[..., Path]) -> None:
    rows = [{"prompt": "\u4e16" * 150, "completion": "A word. " * 300} for _ in range(210)]
    found = list(inspect(make_job(write_rows(rows), max_length=900), Control()))
    assert max(len(events.encode(event)) for event in found) < 64_000
    lines = [e.data for e in found if isinstance(e, events.Report) and e.kind == "preview"]
    assert len(lines) > 1
    assert [line["start"] for line in lines] == sorted(line["start"] for line in lines)
    assert sum(len(line["rows"]) for line in lines) == 200


def test_it_stops_when_asked(write_rows: Callable[..., Path]) -> None:
    control, found = Control(), list[events.Event]()
    for event in inspect(make_job(write_rows([{"text": "A line."}] * 50)), control):
        found.append(event)
        control.stop()
    assert found[-1] == events.Finished(reason="stopped")
    assert not any(isinstance(event, events.Report) for event in found)


@pytest.mark.parametrize(
    ("lengths", "edges"),
    [([5], [0, 1, 2, 3, 4, 5, 6]), ([1, 100], [*range(0, 102, 5), 105]), ([512] * 3, None)],
)
def test_the_histogram_has_round_steps(lengths: list[int], edges: list[int] | None) -> None:
    made = histogram(lengths)
    assert sum(made["counts"]) == len(lengths)
    assert len(made["edges"]) == len(made["counts"]) + 1
    assert made["counts"][-1] > 0
    if edges:
        assert made["edges"] == edges


def test_a_few_giants_do_not_flatten_the_histogram() -> None:
    made = histogram([*range(100, 200), 90_000])
    assert made["edges"][-1] == 90_000
    assert made["edges"][-2] < 600
    assert made["counts"][-1] == 1
