"""How the end of a job is judged, from what it said, its exit status and its last words."""

from __future__ import annotations

import msgspec
import pytest

from mlx_lora import jobs
from mlx_lora.events import Failed, Finished, Hello, Phase
from mlx_lora.jobs import judge

METAL = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
    "buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOf"
    "Memory)\n"
)


@pytest.mark.parametrize(
    "said",
    [Finished(reason="done"), Failed(code="diverged", where="step 3", why="it rose", fix="lower")],
)
@pytest.mark.parametrize("code", [0, 2, -9])
def test_a_last_word_stands_whatever_came_after(said: Finished | Failed, code: int) -> None:
    assert judge(said, code, ["noise"]) is said


@pytest.mark.parametrize(
    ("exit_code", "tail", "code", "why"),
    [
        (-9, [], "killed", "the system ended the worker, most often because memory ran out"),
        (-9, ["a warning\n"], "killed", "the system ended the worker"),
        (-6, [METAL], "out_of_memory", "Insufficient Memory"),
        (-6, [METAL, "\n", "zsh: abort\n"], "out_of_memory", "Insufficient Memory"),
        (-6, ["std::bad_alloc\n"], "out_of_memory", "std::bad_alloc"),
        (-6, ["assertion failed\n"], "crashed", "the worker crashed (SIGABRT) assertion failed"),
        (-11, [], "crashed", "the worker crashed (SIGSEGV)"),
        (-7, ["\n", "  \n"], "crashed", "the worker crashed (SIGBUS)"),
        (-35, [], "crashed", "the worker crashed (signal 35)"),
        (1, [], "internal", "the worker ended without a word (exit 1)"),
        (1, ["KeyError: 'x'\n"], "internal", "exit 1) KeyError: 'x'"),
        (0, [], "internal", "the worker ended without a word (exit 0)"),
        (137, [], "internal", "exit 137"),
    ],
)
@pytest.mark.parametrize("last", [None, Hello(pid=1), Phase("training", 3, 9)])
def test_an_end_without_a_word(
    last: Hello | Phase | None, exit_code: int, tail: list[str], code: str, why: str
) -> None:
    found = judge(last, exit_code, tail)
    assert isinstance(found, Failed)
    assert found.code == code
    assert why in found.why
    assert found.fix
    assert "\n" not in found.why


def test_old_words_about_memory_are_no_cause() -> None:
    tail = ["memory: 3 GB of 8 GB\n", *(f"line {n}\n" for n in range(20))]
    found = judge(None, -11, tail)
    assert isinstance(found, Failed)
    assert found.code == "crashed"


def test_jobs_and_commands_survive_the_wire() -> None:
    for job in (
        jobs.TrainJob(run="/r", root="/d"),
        jobs.CompareJob(
            model=jobs.ModelConfig(source="demo"),
            voices=(jobs.Voice(), jobs.Voice("/a", 0.5, "half")),
            prompts=("To be",),
            sampling={"temperature": 0.0},
        ),
    ):
        line = msgspec.json.encode(job)
        assert b"\n" not in line
        assert msgspec.json.decode(line, type=jobs.Job) == job
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"explode"}', type=jobs.Command)
