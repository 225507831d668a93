"""A base model trained in a built-in form: kept, asked, measured and exported in that form."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from made import DEMO, gguf_in, make_base, make_pair
from test_modelfile import commands, execute

from mlx_lora import events, jobs
from mlx_lora.config import ModelConfig, build_config
from mlx_lora.control import Control
from mlx_lora.data.formats import Message
from mlx_lora.data.template import ChatTemplate
from mlx_lora.data.templates import BUILT_IN, built_in
from mlx_lora.export.export import export
from mlx_lora.export.gguf_reader import read_gguf
from mlx_lora.export.source import Source
from mlx_lora.generation.conversation import converse
from mlx_lora.generation.evaluate import evaluate
from mlx_lora.generation.voices import speak
from mlx_lora.lora.store import copy_adapter, read_facts, read_shape
from mlx_lora.models.loading import load_model
from mlx_lora.models.tokenizer import read_tokenizer
from mlx_lora.preflight import make_record
from mlx_lora.runs import Run, RunStore
from mlx_lora.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = "Who is there?"
ANSWER = "It is me."
TALKS = [
    {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWER}]}
    for _ in range(12)
]
ORDERS = [{"instruction": ASKED, "input": "", "output": ANSWER} for _ in range(12)]
OPENED = {
    "plain": "User: Who is there?\nAssistant:",
    "alpaca": "### Instruction:\nWho is there?\n\n### Response:\n",
}
END = 1  # the id of <|end_of_text|>
SAMPLING = {"max_tokens": 24, "temperature": 0.0}


class Trained(NamedTuple):
    """A finished run on a base model without a chat template."""

    name: str
    run: Run
    model: Path

    @property
    def adapter(self) -> Path:
        return self.run.folder / "adapter"


@pytest.fixture(scope="module", params=[pytest.param("plain", marks=pytest.mark.slow), "alpaca"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A few steps on one question, until its answer is known by heart."""
    root = tmp_path_factory.mktemp(request.param)
    rows = TALKS if request.param == "plain" else ORDERS
    data = root / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "model": {"source": str(DEMO)},
        "data": {"source": str(data), "max_length": 128, "val_fraction": 0.3},
        "adapter": {"rank": 8},
        "training": {"steps": 40, "learning_rate": 5e-3, "sample_every": 20},
    }
    run = RunStore(root).create(*make_record(build_config(tree), root))
    with run.append_log() as log:
        for event in train(run, root, Control()):
            log.write(events.encode(event))
    return Trained(request.param, run, DEMO)


def report(said: Iterator[events.Event]) -> dict[str, Any]:
    found = list(said)
    assert not [event for event in found if isinstance(event, events.Notice)]
    return next(event.data for event in found if isinstance(event, events.Report))


def test_the_adapter_keeps_its_form(trained: Trained) -> None:
    facts = read_facts(trained.adapter)
    assert facts is not None
    assert (facts.template_name, facts.prompt_style) == (trained.name, "chat")
    base = load_model(str(trained.model))
    assert facts.template_source == built_in(base.tokenizer, trained.name).source
    template = ChatTemplate(facts.template_source, base.tokenizer.special_tokens)
    assert facts.template_sha256 == template.sha256
    asked = template.render([Message("user", ASKED)], add_generation_prompt=True)
    assert asked == (base.tokenizer.bos or "") + OPENED[trained.name]
    samples = [event for event in trained.run.events() if isinstance(event, events.Sample)]
    assert samples
    assert {sample.text.strip() for sample in samples if sample.step == 40} == {ANSWER}


@pytest.mark.slow
def test_generate_and_compare_ask_in_that_form(trained: Trained) -> None:
    voice = jobs.Voice(str(trained.adapter), label="adapted")
    model = ModelConfig(source=str(trained.model))

    def asked(*voices: jobs.Voice, **more: Any) -> dict[str, Any]:
        prompt = more.pop("prompt", ASKED)
        job = jobs.CompareJob(
            model=model, voices=voices, prompts=(prompt,), sampling=SAMPLING, **more
        )
        return report(speak(job, "compare", Control()))

    found = asked(jobs.Voice(), voice)
    assert (found["style"], found["template"]) == ("chat", trained.name)
    base, adapted = found["rows"]
    assert (adapted["text"], adapted["stop"]) == (ANSWER, "stop")
    # the base is asked in the same form, though it has none of its own
    spelled = asked(jobs.Voice(), prompt=OPENED[trained.name])
    assert (spelled["style"], spelled["template"]) == ("raw", "none")
    assert base["text"] == spelled["rows"][0]["text"].lstrip()
    (alone,) = asked(voice)["rows"]
    assert alone["text"] == ANSWER
    raw = asked(jobs.Voice(), voice, style="raw")
    assert (raw["style"], raw["template"]) == ("raw", "none")
    assert raw["rows"][0]["text"] == asked(jobs.Voice())["rows"][0]["text"] != base["text"]
    assert raw["rows"][1]["text"] != ANSWER


@pytest.mark.slow
def test_a_talk_goes_on_in_that_form(trained: Trained) -> None:
    control = Control()
    said = converse(jobs.TalkJob(model=ModelConfig(source=str(trained.model))), control)
    answers = []
    for number, adapter in enumerate((str(trained.adapter), None)):
        voice = jobs.Voice(adapter, label="adapted") if adapter else None
        control.ask(jobs.Question(id=number, prompt=ASKED, voice=voice, sampling=SAMPLING))
        answers.append(next(e.data for e in said if isinstance(e, events.Report)))
    with_adapter, without = answers
    assert (with_adapter["style"], with_adapter["template"]) == ("chat", trained.name)
    assert with_adapter["voices"][1]["text"] == ANSWER
    assert (without["style"], without["template"]) == ("raw", "none")


@pytest.mark.slow
def test_it_is_measured_in_that_form(trained: Trained, tmp_path: Path) -> None:
    """Prompt + completion rows, which the base alone would be put as they are."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": ASKED, "completion": ANSWER}) + "\n")
    config = trained.run.record().config

    def loss(adapter: bool, **changes: Any) -> float:
        job = jobs.EvaluateJob(
            model=config.model, data=msgspec.structs.replace(config.data, **changes), seed=0,
            root=str(tmp_path), adapter=str(trained.adapter) if adapter else None, whole=True,
        )  # fmt: skip
        figures = report(e for e in evaluate(job) if not isinstance(e, events.Notice))
        return float(figures["adapted" if adapter else "base"]["loss"])

    pairs = {"source": str(path)}
    assert loss(True, **pairs) == pytest.approx(loss(True), abs=1e-4)
    assert loss(True, **pairs) < 0.2
    assert loss(True, **pairs, template="none") > 1
    assert loss(False, **pairs) == pytest.approx(loss(False, **pairs, template="none"), abs=1e-6)


# --- exports ---

TURNS = (
    (Message("user", ASKED),),
    (Message("system", "Be kind."), Message("user", "a\nb"), Message("assistant", "c"),
     Message("user", "d {{ x }}")),
)  # fmt: skip
_APPLY = """
import json, os, sys, urllib.request
from xllamacpp import CommonParams, Server
settings = CommonParams()
settings.model.path, settings.n_ctx, settings.cpuparams.n_threads = sys.argv[1], 128, 1
server = Server(settings)
said = []
for turns in json.loads(sys.argv[2]):
    body = json.dumps({"messages": turns}).encode()
    asked = urllib.request.Request(
        server.listening_address + "/apply-template", body, {"Content-Type": "application/json"}
    )
    said.append(json.load(urllib.request.urlopen(asked))["prompt"])
print(json.dumps(said))
sys.stdout.flush()
os._exit(0)
"""


def applied(model: Path, talks: tuple[tuple[Message, ...], ...]) -> list[str]:
    """What llama.cpp's own server makes of conversations by the template in a GGUF file."""
    turns = [[{"role": m.role, "content": m.content} for m in talk] for talk in talks]
    done = subprocess.run(
        [sys.executable, "-c", _APPLY, str(model), json.dumps(turns)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def written(trained: Trained, form: str, quant: str, out: Path, **options: Any) -> str:
    """Export; returns the template it must carry."""
    job = jobs.ExportJob(
        model=ModelConfig(source=str(trained.model)), adapter=str(trained.adapter), format=form,
        quant=quant, out=str(out), root=str(out.parent), run=str(trained.run.folder), **options,
    )  # fmt: skip
    assert isinstance(list(export(job, Control()))[-1], events.Finished)
    facts = read_facts(trained.adapter)
    assert facts is not None
    return facts.template_source


def texts(source: str, model: Path) -> list[str]:
    """What our own sandbox makes of `TURNS`, without the start token llama.cpp puts itself."""
    tokenizer = load_model(str(model)).tokenizer
    template = ChatTemplate(source, tokenizer.special_tokens)
    found = [template.render(turns, add_generation_prompt=True) for turns in TURNS]
    return [text.removeprefix(tokenizer.bos or "") for text in found]


def test_gguf_and_ollama_carry_it(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = written(trained, "ollama", "f32", out)
    assert read_gguf(gguf_in(out)).fields["tokenizer.chat_template"][1] == source
    expected = texts(source, trained.model)
    assert applied(gguf_in(out), TURNS) == expected
    lines = commands((out / "Modelfile").read_text())
    template = dict(lines)["TEMPLATE"]
    assert [execute(template, turns) for turns in TURNS] == expected
    assert ("stop", "<|end_of_text|>") in lines
    assert f"Chat template: `{trained.name}`" in (out / "README.md").read_text()


def test_adapters_carry_it(trained: Trained, tmp_path: Path) -> None:
    for form, quant in (("mlx", ""), ("peft", ""), ("gguf-lora", "f32")):
        out = tmp_path / form
        source = written(trained, form, quant, out)
        assert (out / "chat_template.jinja").read_text() == source
        card = (out / "README.md").read_text()
        assert f"Chat template: `{trained.name}`" in card
        assert "chat_template.jinja" in card.partition("## How to run it")[2]
    facts = read_facts(tmp_path / "mlx")
    assert facts is not None
    assert facts.template_source == source
    gguf = read_gguf(gguf_in(tmp_path / "gguf-lora"))
    assert gguf.fields["tokenizer.chat_template"][1] == source
    written(trained, "gguf-lora", "f16", tmp_path / "one.gguf", verify=False)
    assert (tmp_path / "one.chat_template.jinja").read_text() == source
    assert "one.chat_template.jinja" in (tmp_path / "one.README.md").read_text()


@pytest.mark.slow
def test_folders_of_whole_models_carry_it(trained: Trained, tmp_path: Path) -> None:
    for form, quant in (("hf", "f32"), ("mlx-fused", "16")):
        out = tmp_path / form
        source = written(trained, form, quant, out)
        config = json.loads((out / "tokenizer_config.json").read_text())
        assert config["chat_template"] == (out / "chat_template.jinja").read_text() == source
        ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
        assert ends == [END]
        job = jobs.GenerateJob(
            model=ModelConfig(source=str(out)), voices=(jobs.Voice(),), prompts=(ASKED,),
            sampling=SAMPLING,
        )  # fmt: skip
        found = report(speak(job, "generate", Control()))
        assert found["rows"][0]["text"] == ANSWER
        assert (found["style"], found["rows"][0]["stop"]) == ("chat", "stop")


@pytest.mark.parametrize("tokenizer", ["demo", pytest.param("qwen3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BUILT_IN)
def test_llama_cpp_reads_all_of_them(name: str, tokenizer: str, tmp_path: Path) -> None:
    """In place of a template the model has, where it has one; with the end that belongs to it."""
    model = make_base(tmp_path / "model", "llama", tokenizer)
    pair = make_pair(tmp_path / "adapter", model)
    own = read_tokenizer(model, [], 1 << 20)
    facts, source = read_facts(pair.adapter), built_in(own, name).source
    assert facts is not None
    stored = {"prompt_style": "chat", "template_name": name, "template_source": source}
    facts = msgspec.structs.replace(facts, **stored)
    copy_adapter(pair.adapter, pair.adapter, read_shape(pair.adapter, 2), facts)
    job = jobs.ExportJob(
        model=ModelConfig(source=str(model)), adapter=str(pair.adapter), format="ollama",
        quant="f16", out=str(tmp_path / "out"), root=str(tmp_path), verify=False,
    )  # fmt: skip
    list(export(job, Control()))
    template = ChatTemplate(source, own.special_tokens)
    start = own.bos if own.adds_bos and own.bos else ""
    more = (*TURNS, (*TURNS[1], Message("assistant", "e"), Message("tool", "42")))
    expected = [
        template.render(turns, add_generation_prompt=True).removeprefix(start) for turns in more
    ]
    assert applied(gguf_in(tmp_path / "out"), more) == expected
    lines = commands((tmp_path / "out" / "Modelfile").read_text())
    assert [execute(dict(lines)["TEMPLATE"], turns) for turns in TURNS] == expected[:2]
    end = "<|im_end|>" if tokenizer == "qwen3" else own.eos
    assert ("stop", end) in lines
    assert Source(str(model), "keep", pair.adapter).tokenizer.template_name == name
