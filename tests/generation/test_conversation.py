"""Two voices on one base, in turns: what they say, what goes wrong, and when they leave."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trial
from models_made import attach_adapter, randomize_adapter

from mlx_lora import __version__, events, jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.dataset import build_dataset
from mlx_lora.data.held_out import held_out_prompts
from mlx_lora.data.render import Renderer
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.generation.conversation import converse
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling
from mlx_lora.generation.voices import speak
from mlx_lora.lora.store import AdapterFacts, load_adapter, save_adapter
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PROMPT = "Once upon a time there was"
SAMPLINGS = {
    "greedy": {"max_tokens": 10, "temperature": 0.0},
    "sampled": {
        "max_tokens": 10, "temperature": 0.9, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 7,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two random adapters of the demo model that speak differently."""
    made = []
    for seed in (1, 2):
        base = load_model("demo")
        adapter = attach_adapter(base.module, alpha=6.0, rank=4)
        randomize_adapter(adapter, seed=seed, size=0.15)
        facts = AdapterFacts(
            base_name=base.name, base_fingerprint=base.fingerprint, bits="keep",
            prompt_style="raw", template_sha256="", settings={}, step=seed, version=__version__,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("adapters") / f"adapter-{seed}"
        save_adapter(folder, adapter.tensors(), adapter.shape, facts)
        made.append(str(folder))
    return made[0], made[1]


class Talk:
    """A conversation in this process, driven question by question."""

    def __init__(self, **job: Any) -> None:
        self.control = Control()
        job = {"model": ModelConfig(source="demo"), **job}
        self.events = converse(jobs.TalkJob(**job), self.control)
        self.said: list[events.Event] = []
        self.number = 0
        assert self.until_idle() == [events.Phase("loading_model"), events.Phase("idle")]

    def until_idle(self) -> list[events.Event]:
        heard: list[events.Event] = []
        for event in self.events:
            heard.append(event)
            if event == events.Phase("idle"):
                break
        self.said += heard
        return heard

    def ask(self, prompt: str = PROMPT, adapter: str | None = None, **more: Any) -> dict[str, Any]:
        self.number += 1
        voice = jobs.Voice(adapter, more.pop("strength", 1.0), "adapted") if adapter else None
        self.control.ask(jobs.Question(id=self.number, prompt=prompt, voice=voice, **more))
        self.heard = self.until_idle()
        report = next(e for e in self.heard if isinstance(e, events.Report))
        assert report.kind == "answer"
        assert report.data["id"] == self.number
        return report.data


@pytest.fixture(scope="module")
def talk() -> Talk:
    return Talk()


def alone(adapter: str | None, prompt: str, sampling: dict[str, Any]) -> tuple[str, int, str]:
    """What a voice says on a base of its own, nobody else beside it."""
    base = load_model("demo")
    if adapter is not None:
        load_adapter(Path(adapter), base).train(False)
    renderer = Renderer(base.tokenizer, base.context or 4096)
    ids, settings = renderer.prompt(prompt, "raw"), Sampling(**sampling)
    pieces = list(generate(base.module, base.tokenizer, ids, renderer.stop_ids, settings))
    return "".join(piece.text for piece in pieces), len(pieces), pieces[-1].stop


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_each_says_in_turns_what_it_says_alone(
    kind: str, talk: Talk, adapters: tuple[str, str]
) -> None:
    sampling = SAMPLINGS[kind]
    answer = talk.ask(adapter=adapters[0], sampling=sampling)
    base, adapted = answer["voices"]
    said = [(v["text"], v["tokens"], v["stop"]) for v in (base, adapted)]
    assert said == [alone(None, PROMPT, sampling), alone(adapters[0], PROMPT, sampling)]
    assert base["text"] != adapted["text"]
    tokens = [e for e in talk.heard if isinstance(e, events.Token)]
    assert [token.row for token in tokens[:6]] == [0, 1, 0, 1, 0, 1]
    for row, voice in enumerate(answer["voices"]):
        assert "".join(t.text for t in tokens if t.row == row) == voice["text"]
        assert 0 < voice["first_token_seconds"] <= voice["seconds"]
        assert voice["tokens_per_second"] == pytest.approx(voice["tokens"] / voice["seconds"])


def test_compare_on_the_command_line_says_the_same(talk: Talk, adapters: tuple[str, str]) -> None:
    prompts, sampling = (PROMPT, "The king"), SAMPLINGS["sampled"]
    voices = (jobs.Voice(), jobs.Voice(adapters[0], label="adapted"))
    job = jobs.CompareJob(
        model=ModelConfig(source="demo"), voices=voices, prompts=prompts, sampling=sampling
    )
    report = next(e for e in speak(job, "compare", Control()) if isinstance(e, events.Report))
    names = ("voice", "text", "tokens", "stop")
    rows = [tuple(row[name] for name in names) for row in report.data["rows"]]
    talked = [
        tuple(voice[name] for name in names)
        for prompt in prompts
        for voice in talk.ask(prompt, adapters[0], sampling=sampling)["voices"]
    ]
    assert rows == talked


def test_swapped_turned_up_and_taken_off(talk: Talk, adapters: tuple[str, str]) -> None:
    sampling = SAMPLINGS["greedy"]

    def texts(adapter: str | None, **more: Any) -> list[str]:
        answer = talk.ask(adapter=adapter, sampling=sampling, **more)
        return [voice["text"] for voice in answer["voices"]]

    first, second = texts(adapters[0]), texts(adapters[1])
    assert len({first[0], first[1], second[1]}) == 3
    assert first[0] == second[0]
    assert second[1] == alone(adapters[1], PROMPT, sampling)[0]
    assert texts(adapters[1], strength=0.0) == [first[0], first[0]]
    assert texts(None) == [first[0]]
    assert texts(adapters[0]) == first
    assert texts(adapters[0], together=False) == first
    assert [e.row for e in talk.heard if isinstance(e, events.Token)][:3] == [0, 0, 0]
    assert talk.said.count(events.Phase("loading_model")) == 1


@pytest.mark.parametrize(
    ("question", "code", "words"),
    [
        ({"prompt": "word " * 4000}, "bad_option", "tokens"),
        ({"sampling": {"temperature": -1}}, "bad_option", "-1 is not possible"),
        ({"sampling": {"max_tokens": 0}}, "bad_option", "0 is not possible"),
        ({"sampling": {"heat": 1}}, "bad_option", "heat"),
    ],
)
def test_a_bad_question_is_refused_and_the_next_one_answered(
    question: dict[str, Any], code: str, words: str, talk: Talk
) -> None:
    answer = talk.ask(**question)
    assert answer["error"]["code"] == code
    assert words in answer["error"]["why"]
    assert answer["error"]["fix"]
    assert "voices" not in answer
    again = talk.ask(sampling={"max_tokens": 2})
    assert again["voices"][0]["tokens"] == 2


def test_a_bad_adapter_silences_one_voice_only(
    talk: Talk, adapters: tuple[str, str], tmp_path: Path
) -> None:
    sampling = SAMPLINGS["greedy"]
    before = talk.ask(adapter=adapters[0], sampling=sampling)["voices"]
    base, adapted = talk.ask(adapter=str(tmp_path / "gone"), sampling=sampling)["voices"]
    assert base["text"] == before[0]["text"]
    assert adapted["stop"] == "failed"
    assert adapted["error"]["code"] == "bad_adapter"
    assert (
        talk.ask(adapter=adapters[0], sampling=sampling)["voices"][1]["text"] == (before[1]["text"])
    )


def test_a_voice_without_numbers_fails_and_the_other_goes_on(
    talk: Talk, adapters: tuple[str, str]
) -> None:
    sampling = {"max_tokens": 6}
    base, adapted = talk.ask(adapter=adapters[0], strength=1e38, sampling=sampling)["voices"]
    assert adapted["stop"] == "failed"
    assert adapted["error"]["code"] == "bad_model"
    assert base["tokens"] == 6


def test_cancelled_in_the_middle(talk: Talk, adapters: tuple[str, str]) -> None:
    voice = jobs.Voice(adapters[0], label="adapted")
    settings = {"max_tokens": 400}
    talk.control.ask(jobs.Question(id=101, prompt=PROMPT, voice=voice, sampling=settings))
    talk.control.ask(jobs.Question(id=102, prompt=PROMPT, sampling={"max_tokens": 3}))
    heard: list[events.Event] = []
    while sum(isinstance(event, events.Token) for event in heard) < 5:
        heard.append(next(talk.events))
    talk.control.cancel(101)
    first, second = (
        next(e for e in talk.until_idle() if isinstance(e, events.Report)) for _ in range(2)
    )
    assert [voice["stop"] for voice in first.data["voices"]] == ["stopped", "stopped"]
    assert 4 <= sum(voice["tokens"] for voice in first.data["voices"]) <= 6
    assert second.data["voices"][0]["tokens"] == 3


def test_a_cancelled_question_that_waits_is_not_begun(talk: Talk) -> None:
    talk.control.cancel(talk.number + 1)
    answer = talk.ask(sampling={"max_tokens": 300})
    assert answer["voices"][0]["tokens"] <= 1


def rows_of(talk: Talk, count: int = 20) -> dict[str, Any]:
    talk.control.ask(jobs.HeldOut(count=count))
    report = next(e for e in talk.until_idle() if isinstance(e, events.Report))
    assert report.kind == "rows"
    return report.data


def test_held_out_prompts_are_those_of_the_run(write_rows: Any, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What comes after {n}?", "completion": f" It is {n + 1}.\nSurely."}
        for n in range(60)
    ]
    path = write_rows(rows)
    data = DataConfig(source=str(path), max_length=64, val_fraction=0.5)
    talk = Talk(
        data=data, seed=3, root=str(tmp_path), data_sha256=find_source(data, tmp_path).sha256()
    )
    found = rows_of(talk)["rows"]
    base = load_model("demo")
    held = {row.row for row in _dataset(data, base.tokenizer, seed=3).validation}
    numbers = [int(row["prompt"].split()[-1].rstrip("?")) for row in found]
    assert len(numbers) == len(set(numbers)) == 20
    assert {number + 1 for number in numbers} <= held
    assert all(
        row["answer"] == f" It is {n + 1}.\nSurely." for n, row in zip(numbers, found, strict=True)
    )
    assert len(rows_of(talk, 5)["rows"]) == 5
    path.write_text(path.read_text() + json.dumps(rows[0]) + "\n")
    assert rows_of(talk)["error"]["code"] == "data_changed"
    path.unlink()
    assert rows_of(talk)["error"]["code"] == "no_such_data"
    assert talk.ask(sampling={"max_tokens": 1})["voices"][0]["tokens"] == 1


def _dataset(data: DataConfig, tokenizer: Any, seed: int = 0) -> Any:
    source = find_source(data, Path())
    return _returned(
        build_dataset(source, tokenizer, data, context=None, seed=seed, today="2026-01-01")
    )


def _returned(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


ALPACA = {"instruction": "Say {n}", "output": "yes"}
TURNS = (
    ("system", "Be brief"), ("user", "Hi {n}"), ("assistant", "Ho"), ("user", "x"),
    ("assistant", "y"),
)  # fmt: skip
TALKS = {"messages": [{"role": role, "content": content} for role, content in TURNS]}


@pytest.mark.parametrize(
    ("row", "template", "expected"),
    [
        ({"text": "one two three four five six"}, "auto", ("one two three", " four five six")),
        ({"text": "A:\nsome words that go on"}, "auto", ("A:\n", "some words that go on")),
        (ALPACA, "none", ("### Instruction:\nSay {n}\n\n### Response:\n", "yes")),
        (ALPACA, "auto", ("Say {n}", "yes")),
        (TALKS, "auto", ("Hi {n}", "Ho")),
    ],
)
def test_the_question_of_a_row(
    row: dict[str, Any], template: Any, expected: tuple[str, str], write_rows: Any, tmp_path: Path
) -> None:
    prompt, answer = expected
    rows = [json.loads(json.dumps(row).replace("{n}", f"number {n}")) for n in range(6)]
    if "text" in row:
        rows = [{"text": f"{row['text']} {'and ' * n}"} for n in range(6)]
    path = str(write_rows(rows))
    data = DataConfig(source=path, max_length=256, val_fraction=0.5, template=template)
    dataset = _dataset(data, load_model("demo").tokenizer)
    found = held_out_prompts(find_source(data, tmp_path), dataset, 20)
    assert len(found) == 3
    for item in found:
        if "text" in row:
            assert item.prompt.startswith(prompt)
            assert (item.prompt + item.answer).startswith(row["text"])
        else:
            assert item.prompt in {prompt.replace("{n}", f"number {n}") for n in range(6)}
            assert item.answer == answer


def test_a_play_gives_its_blocks(talk: Talk, tiny_text: Path, tmp_path: Path) -> None:
    data = DataConfig(source=str(tiny_text), max_length=64, val_fraction=0.3)
    other = Talk(data=data, root=str(tmp_path))
    found = rows_of(other)["rows"]
    assert found
    whole = tiny_text.read_text()
    assert all(row["prompt"] + row["answer"] in whole for row in found)
    assert any(row["prompt"] in {"FIRST:\n", "SECOND:\n"} for row in found)
    assert rows_of(talk) == {"rows": []}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[trial.Process]:
    """A real worker that talks."""
    started = trial.Process(("--worker",), tmp_path / "home")
    started.write(msgspec.json.encode(jobs.TalkJob(model=ModelConfig(source="demo"))))
    yield started
    trial.kill(started.process.pid)
    started.wait(10)


def is_idle(event: events.Event) -> bool:
    return event == events.Phase("idle")


def is_answer(event: events.Event) -> bool:
    return isinstance(event, events.Report) and event.kind == "answer"


def ask(process: trial.Process, number: int, tokens: int) -> None:
    question = jobs.Question(id=number, prompt=PROMPT, sampling={"max_tokens": tokens})
    process.write(msgspec.json.encode(question))


def test_cancelled_from_outside_then_left(process: trial.Process) -> None:
    process.wait_for(is_idle)
    process.write(b'{"type":"juggle","balls":3}')
    ask(process, 1, 500)
    process.wait_for(lambda e: isinstance(e, events.Token))
    process.write(b'{"type":"cancel","id":1}')
    answer = process.wait_for(is_answer, 10)
    assert isinstance(answer, events.Report)
    assert answer.data["voices"][0]["stop"] == "stopped"
    process.write(b'{"type":"leave"}')
    assert process.wait(10) == 0
    assert isinstance(process.said[-1], events.Finished)


@pytest.mark.parametrize(
    "while_speaking", [pytest.param(False, marks=pytest.mark.slow), True], ids=["idle", "speaking"]
)
def test_it_leaves_with_its_owner(process: trial.Process, while_speaking: bool) -> None:
    process.wait_for(is_idle)
    if while_speaking:
        ask(process, 1, 500)
        process.wait_for(lambda e: isinstance(e, events.Token))
    process.close()
    assert process.wait(10) == 0
    assert trial.is_gone(process.process.pid)


def test_killed(process: trial.Process) -> None:
    process.wait_for(is_idle)
    ask(process, 1, 500)
    process.wait_for(lambda e: isinstance(e, events.Token))
    os.kill(process.process.pid, signal.SIGKILL)
    code = process.wait(10)
    outcome = jobs.judge(process.said[-1], code, process.stderr.splitlines())
    assert isinstance(outcome, events.Failed)
    assert outcome.code == "killed"


def test_a_model_that_is_not_there_fails_the_job(tmp_path: Path) -> None:
    job = jobs.TalkJob(model=ModelConfig(source=str(tmp_path / "none")))
    with pytest.raises(UserError) as caught:
        list(converse(job, Control()))
    assert caught.value.code == "no_such_model"


def test_the_commands_survive_the_wire() -> None:
    for message in (
        jobs.Question(id=1, prompt="a\nb", sampling={"seed": 3.0}, voice=jobs.Voice("/a", 0.5)),
        jobs.HeldOut(count=3),
        jobs.Cancel(id=4),
        jobs.Command(type="leave"),
    ):
        assert jobs.read_command(msgspec.json.encode(message)) == message
    for line in (b'{"type":"explode"}', b"{", b"\xff", b'{"type":"ask"}', b"[" * 5000):
        assert jobs.read_command(line) is None
