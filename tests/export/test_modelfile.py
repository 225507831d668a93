"""The Modelfile, read with a small Go template evaluator that knows nothing of how it was made."""

from __future__ import annotations

import functools
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from mlx_lora.data.formats import Message
from mlx_lora.data.template import ChatTemplate
from mlx_lora.errors import UserError
from mlx_lora.export.modelfile import modelfile
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

BARE = "# no TEMPLATE: Ollama reads the chat template inside the GGUF file"
# start token, end token, whether llama.cpp adds the start token
TOKENS = {
    "HuggingFaceTB-SmolLM3-3B": ("", "<|im_end|>", False),
    "LFM2-8B-A1B": ("<|startoftext|>", "<|im_end|>", True),
    "Qwen-Qwen2.5-7B-Instruct": ("", "<|im_end|>", False),
    "Qwen-Qwen3-0.6B": ("", "<|im_end|>", False),
    "google-gemma-2-2b-it": ("<bos>", "<eos>", True),
    "google-gemma-4-31B-it": ("<bos>", "<turn|>", True),
    "meta-llama-Llama-3.2-3B-Instruct": ("<|begin_of_text|>", "<|eot_id|>", True),
    "microsoft-Phi-3.5-mini-instruct": ("<s>", "<|endoftext|>", False),
    "mistralai-Mistral-Nemo-Instruct-2407": ("<s>", "</s>", True),
    "openai-gpt-oss-120b": ("<|startoftext|>", "<|return|>", False),
}
FAMILIES = ["gemma3", "llama3", "phi3", "qwen3"]
REAL = [*TOKENS, *FAMILIES]
# real templates that no fixed pieces make: none so far; one more is a regression
LEFT_OUT: set[str] = set()
NO_SYSTEM = {"google-gemma-2-2b-it", "gemma3"}
SPACES = "spaces around a message stay; the model's own template strips them"
SYSTEM = "a system message is left out: the model's own template takes none"
THINK = "<think> in an earlier answer stays; the model's own template drops it"
LLAMA_DAY = 'left out, for it changes with the day: "Today Date: "...'
NOTES = {
    "Qwen-Qwen3-0.6B": [THINK],
    "qwen3": [THINK],
    "google-gemma-2-2b-it": [SPACES, SYSTEM],
    "gemma3": [SPACES, SYSTEM],
    "google-gemma-4-31B-it": [SPACES],
    "meta-llama-Llama-3.2-3B-Instruct": [LLAMA_DAY, SPACES],
    "llama3": [LLAMA_DAY, SPACES],
    "openai-gpt-oss-120b": ['left out, for it changes with the day: "Current date: "...'],
}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token }}[INST] "
    "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
    "{{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n"
    "{{ first if loop.first and first else '' }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SIGNS = 'so called """talk""" \\ {{ .Prompt }} }} {{-\t\u00a0\u2581\n\n  '
ALPACA = (
    f"{{{{ {SIGNS!r} }}}}"
    "{% for m in messages %}{% if m.role != 'assistant' %}### {{ m.role }}: {{ m.content }}\n\n"
    '{% else %}### Response:\n{{ m.content }}"""\n\n{% endif %}{% endfor %}'
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
MADE = {"chatml": CHATML, "llama2": LLAMA2, "gemma3": GEMMA3, "alpaca": ALPACA}


# --- Go's text/template, as far as it is used here ---


def lex(source: str) -> list[tuple[str, str]]:
    """Texts and actions, trimmed as `{{-` and `-}}` ask for."""
    parts, at, trim = [], 0, False
    while at < len(source):
        begin = source.find("{{", at)
        text = source[at : begin if begin >= 0 else None]
        text = text.lstrip(" \t\r\n") if trim else text
        if begin < 0:
            parts.append(("text", text))
            break
        matched = re.compile(r'\{\{(- )?((?:"(?:[^"\\\n]|\\.)*"|[^"])*?)( -)?\}\}').match(
            source, begin
        )
        assert matched, source[begin : begin + 80]
        parts.append(("text", text.rstrip(" \t\r\n") if matched[1] else text))
        parts.append(("action", matched[2].strip()))
        at, trim = matched.end(), bool(matched[3])
    return [part for part in parts if part != ("text", "")]


def parse(parts: list[tuple[str, str]]) -> tuple[list[Any], str]:
    """Nodes up to the `end` or `else` that closes them."""
    nodes: list[Any] = []
    while parts:
        kind, text = parts.pop(0)
        word, _, rest = text.partition(" ")
        if kind == "text" or word not in {"if", "range", "else", "end"}:
            nodes.append((kind, text))
        elif word in {"else", "end"}:
            return nodes, text
        else:
            inner, closing = parse(parts)
            other: list[Any] = []
            if closing.startswith("else if"):
                parts.insert(0, ("action", closing.removeprefix("else ")))
                other, closing = parse_one(parts)
            elif closing == "else":
                other, closing = parse(parts)
            assert closing == "end", text
            nodes.append((word, rest, inner, other))
    return nodes, ""


def parse_one(parts: list[tuple[str, str]]) -> tuple[list[Any], str]:
    """The `if` of an `else if`, which shares the `end` of the one before."""
    _, text = parts.pop(0)
    inner, closing = parse(parts)
    other: list[Any] = []
    if closing.startswith("else if"):
        parts.insert(0, ("action", closing.removeprefix("else ")))
        other, closing = parse_one(parts)
    elif closing == "else":
        other, closing = parse(parts)
    return [("if", text.partition(" ")[2], inner, other)], closing


class Go:
    """Runs nodes; a variable lives until the block ends in which it was declared."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.scopes: list[dict[str, Any]] = [{"$": data}]
        self.out: list[str] = []

    def run(self, nodes: list[Any], dot: Any) -> None:
        for node in nodes:
            if node[0] == "text":
                self.out.append(node[1])
            elif node[0] == "action":
                self.act(node[1], dot)
            elif node[0] == "if":
                chosen = node[2] if self.value(node[1], dot) else node[3]
                self.block(chosen, dot, {})
            else:
                names, _, what = node[1].partition(" := ")
                key, item = names.split(", ")
                for at, value in enumerate(self.value(what, dot)):
                    self.block(node[2], value, {key: at, item: value})

    def block(self, nodes: list[Any], dot: Any, names: dict[str, Any]) -> None:
        self.scopes.append(dict(names))
        self.run(nodes, dot)
        self.scopes.pop()

    def act(self, text: str, dot: Any) -> None:
        assigned = re.match(r"(\$\w+) (:?=) (.*)", text)
        if not assigned:
            value = self.value(text, dot)
            assert isinstance(value, str), text
            self.out.append(value)
        elif assigned[2] == ":=":
            self.scopes[-1][assigned[1]] = self.value(assigned[3], dot)
        else:
            scope = next(scope for scope in reversed(self.scopes) if assigned[1] in scope)
            scope[assigned[1]] = self.value(assigned[3], dot)

    def value(self, text: str, dot: Any) -> Any:
        tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()]+', text)
        result = self.call(tokens, dot)
        assert not tokens, text
        return result

    def call(self, tokens: list[str], dot: Any) -> Any:
        head, arguments = tokens[0], []
        if re.fullmatch("[a-z]+", head) and head not in {"true", "false"}:
            tokens.pop(0)
            while tokens and tokens[0] != ")":
                arguments.append(self.operand(tokens, dot))
            return FUNCTIONS[head](*arguments)
        return self.operand(tokens, dot)

    def operand(self, tokens: list[str], dot: Any) -> Any:
        token = tokens.pop(0)
        if token == "(":
            value = self.call(tokens, dot)
            assert tokens.pop(0) == ")"
            return value
        if token.startswith('"'):
            return unquoted(token)
        if token in {"true", "false"} or token.isdigit():
            return {"true": True, "false": False}[token] if token.isalpha() else int(token)
        name, *fields = token.split(".")
        value = dot
        if name:
            value = next(scope[name] for scope in reversed(self.scopes) if name in scope)
        for field in fields:
            value = value[field]
        return value


FUNCTIONS: dict[str, Any] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "not": lambda a: not a,
    "and": lambda a, b: a and b,
    "len": len,
    "slice": lambda a, start: a[start:],
}


def unquoted(token: str) -> str:
    signs = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(
        r"\\(?:U([0-9a-f]{8})|(.))",
        lambda m: chr(int(m[1], 16)) if m[1] else signs[m[2]],
        token[1:-1],
    )


def execute(template: str, turns: tuple[Message, ...]) -> str:
    """As Ollama does it: every system text in .System, and all messages."""
    data = {
        "System": "\n\n".join(turn.content for turn in turns if turn.role == "system"),
        "Messages": [{"Role": turn.role, "Content": turn.content} for turn in turns],
    }
    nodes, rest = parse(lex(template))
    assert not rest
    go = Go(data)
    go.run(nodes, data)
    return "".join(go.out)


# --- Ollama's Modelfile ---


def unwrap(value: str) -> str | None:
    for quote in ('"""', '"'):
        if value.startswith(quote):
            closed = len(value) >= 2 * len(quote) and value.endswith(quote)
            return value[len(quote) : -len(quote)] if closed else None
    return value


def commands(text: str) -> list[tuple[str, str]]:
    """Names and values, comments under `#`; the first line end outside of quotes ends a value."""
    found, name, value = [], "", ""
    for line in text.splitlines():
        if not name and line.startswith("#"):
            found.append(("#", line[2:]))
            continue
        if not name:
            name, _, value = line.partition(" ")
            if name == "PARAMETER":
                name, _, value = value.partition(" ")
        else:
            value += "\n" + line
        # its parser keeps what can be printed, spaces and tabs
        assert all(sign.isprintable() or sign == "\t" for sign in line), line
        bare = unwrap(value.strip())
        if bare is not None:
            found.append((name, bare))
            name = ""
    assert not name, f"{name} never ends"
    return found


# --- the tests ---


def made(
    source: str | None, bos: str = "<s>", eos: str = "</s>", *, adds: bool = True, **special: str
) -> Tokenizer:
    """A tokenizer of few words with this chat template."""
    inner = tokenizers.Tokenizer(WordLevel({"?": 0, "a": 1}, unk_token="?"))
    inner.add_special_tokens([text for text in (bos, eos, *special.values()) if text])
    if bos and adds:
        number = inner.token_to_id(bos)
        inner.post_processor = TemplateProcessing(
            single=f"{bos}:0 $A:0", pair="$A:0 $B:0", special_tokens=[(bos, number)]
        )
    names = {"bos_token": bos, "eos_token": eos, "chat_template": source}
    stops = [inner.token_to_id(text) for text in special.values()]
    return Tokenizer(inner, names, stops)


@functools.cache
def real(name: str, shared: Path) -> Tokenizer:
    if name in FAMILIES:
        return read_tokenizer(shared / "tokenizers" / name, [], 1 << 20)
    source = (shared / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    bos, eos, adds = TOKENS[name]
    return made(source, bos, eos, adds=adds)


@functools.cache
def lines_of(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return commands(modelfile(tokenizer, gguf_name="model.gguf"))


def template_of(tokenizer: Tokenizer) -> str | None:
    return dict(lines_of(tokenizer)).get("TEMPLATE")


def comments_of(tokenizer: Tokenizer) -> list[str]:
    return [value for name, value in lines_of(tokenizer) if name == "#"]


def talk(*contents: str, system: str = "") -> tuple[Message, ...]:
    chat = [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(contents)]
    return (Message("system", system), *chat) if system else tuple(chat)


def drawn() -> list[tuple[Message, ...]]:
    """Contents of odd signs, without spaces around them."""
    generator = random.Random(0)
    signs = "ab Z9 \n\t.,?'\"-_/\\{}%$#\u00e9\u4e16\U0001f600\u2581"

    def text() -> str:
        return "x" + "".join(generator.choices(signs, k=generator.randint(0, 60))) + "."

    return [
        talk(*(text() for _ in range(2 * (n % 5) + 1)), system=text() if n % 2 else "")
        for n in range(20)
    ]


TALKS = [
    talk("Hello?"),
    talk("Hello?", "Good day.", "Who are you?"),
    talk("{{ .Content }}", "{{- end }}", '"""', "\\n", "<b>&amp;"),
    talk("Hello?", system="Answer in one word."),
    talk("1", "2", "3", system="Two\n\nparagraphs, \"quoted\"."),
    *drawn(),
]  # fmt: skip


@functools.cache
def jinja_of(tokenizer: Tokenizer) -> ChatTemplate:
    assert tokenizer.chat_template is not None
    return ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens, "2026-05-17")


def original(tokenizer: Tokenizer, turns: tuple[Message, ...]) -> str:
    """The jinja rendering, without the start token that is added, and without today's line."""
    text = jinja_of(tokenizer).render(turns, add_generation_prompt=True)
    text = text.removeprefix(tokenizer.bos or "") if tokenizer.adds_bos else text
    text = re.sub(r"Today Date: 17 May 2026\n|Current date: 2026-05-17\n", "", text)
    assert "2026" not in text
    return text


def asked(name: str, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """What is compared: without the system message where the original refuses it."""
    return tuple(t for t in turns if t.role != "system") if name in NO_SYSTEM else turns


@pytest.mark.parametrize("name", REAL)
def test_real_templates_render_as_in_jinja_or_are_left_out(name: str, shared: Path) -> None:
    tokenizer = real(name, shared)
    template = template_of(tokenizer)
    assert (template is None) == (name in LEFT_OUT)
    for turns in TALKS if template else []:
        assert execute(template, turns) == original(tokenizer, asked(name, turns))


@pytest.mark.parametrize("name", REAL)
def test_real_templates_say_what_they_leave_out(name: str, shared: Path) -> None:
    tokenizer = real(name, shared)
    assert comments_of(tokenizer) == NOTES.get(name, [])
    template = template_of(tokenizer)
    assert template
    assert not tokenizer.bos or tokenizer.bos not in template
    assert not re.search(r"\b(19|20)\d\d-\d\d-\d\d|Today", template)


@pytest.mark.parametrize("name", REAL)
def test_a_begun_answer_is_left_open(name: str, shared: Path) -> None:
    tokenizer = real(name, shared)
    template = template_of(tokenizer)
    assert template
    for turns in (talk("Hello?", "Good"), talk("a", "b", "c", "Good", system="Be terse.")):
        before = asked(name, turns[:-1])
        if name.startswith("mistralai"):  # puts the system text before a question at the end
            before = tuple(turn for turn in before if turn.role != "system")
        # gpt-oss chooses a channel first; an answer that stands there has chosen
        channel = "<|channel|>final<|message|>" if name.startswith("openai") else ""
        assert execute(template, turns) == original(tokenizer, before) + channel + "Good"


def test_a_system_message_the_template_refuses_is_left_out() -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    skip = "{% if m.role == 'system' %}{% continue %}{% endif %}"
    ignored = CHATML.replace("<|im_start|>{{", skip + "<|im_start|>{{")
    for one in (source, ignored):
        assert comments_of(made(one)) == [SYSTEM]
        template = template_of(made(one))
        assert template
        assert execute(template, talk("a", system="b")) == original(made(CHATML), talk("a"))


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_made_templates_render_as_in_jinja(name: str, adds: bool) -> None:
    tokenizer = made(MADE[name], adds=adds)
    template = template_of(tokenizer)
    assert template
    for turns in TALKS:
        assert execute(template, turns) == original(tokenizer, turns)


def test_a_start_token_nobody_adds_stays() -> None:
    template = template_of(made(GEMMA3, adds=False))
    assert template
    assert execute(template, talk("a")).startswith("<s><start_of_turn>user\na")
    template = template_of(made(GEMMA3))
    assert template
    assert "<s>" not in template


def test_llama2_has_the_start_token_between_turns_only() -> None:
    template = template_of(made(LLAMA2))
    assert template
    expected = "[INST] <<SYS>>\ns\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]"
    assert execute(template, talk("a", "b", "c", system="s")) == expected


def test_signs_that_mean_something_to_go_or_ollama_are_quoted() -> None:
    text = modelfile(made(ALPACA), gguf_name="model.gguf")
    assert text.count('"""') == 2
    template = template_of(made(ALPACA))
    assert template
    assert all(sign.isprintable() or sign == "\n" for sign in template)
    assert execute(template, talk("a")) == f"{SIGNS}### user: a\n\n### Response:\n"


@pytest.mark.parametrize(
    "source",
    [
        CHATML.replace("{{ m.content }}", "{{ m.content }}{{ ' (asked)' if '?' in m.content }}"),
        CHATML.replace("{{ m.content }}", "{{ m.content[:500] }}"),
        CHATML.replace("{{ m.content }}", "{{ m.content | upper }}"),
        CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}"),
        CHATML.replace("{{ m.content }}", "{{ m.content | replace('<', '&lt;') }}"),
        CHATML.replace("{{ m.role }}", "{{ m.role }}{{ ' again' if loop.index > 5 }}"),
        CHATML.replace("{{ m.role }}", "{{ m.role }}{{ ' first' if loop.first }}"),
        CHATML.replace("{{ m.role }}", "{{ m.role }} {{ loop.index }}"),
        CHATML.replace("{{ m.role }}", "{{ m.role }} {{ messages | length }}"),
        CHATML.replace("{{ m.role }}", "{{ m.role }}{{ '!' if messages[0].role == 'system' }}"),
        CHATML.replace("{{ m.role }}", "{{ m.role }} {{ strftime_now('%d %b %Y') }}"),
        CHATML.replace("{% for m in messages %}", "{% for m in messages[-3:] %}"),
        "{{ strftime_now('%d %b') }}" + CHATML,
        "{{ raise_exception('never') }}",
        "Nothing of what was said.",
    ],
)
def test_a_template_without_fixed_pieces_is_never_guessed(source: str) -> None:
    text = modelfile(made(source, im="<|im_start|>"), gguf_name="model.gguf")
    assert BARE in text.splitlines()
    assert "TEMPLATE" not in dict(commands(text))
    assert 'PARAMETER stop "</s>"' in text


def test_a_line_with_the_day_is_left_out_on_every_day() -> None:
    source = "{{ bos_token }}Hello.\n{{ strftime_now('%A, %d.%m.%y') }} it is.\nAnd now:\n" + CHATML
    (note,) = comments_of(made(source))
    assert note == 'left out, for it changes with the day: ""...'
    template = template_of(made(source))
    assert template
    assert execute(template, talk("a")) == "Hello.\nAnd now:\n" + original(made(CHATML), talk("a"))


def test_a_base_model_gets_its_prompt_as_it_is() -> None:
    text = modelfile(made(None), gguf_name="model.gguf")
    expected = 'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER stop "</s>"\n'
    assert text == expected


def test_the_base_model_of_the_shared_data_too(shared: Path) -> None:
    tokenizer = read_tokenizer(shared / "tokenizers" / "llama2", [], 1 << 20)
    assert template_of(tokenizer) == "{{ .Prompt }}"


def test_a_template_that_is_none_is_an_error() -> None:
    with pytest.raises(UserError) as caught:
        modelfile(made("{% if %}"), gguf_name="model.gguf")
    assert caught.value.code == "bad_template"


def test_every_stop_token_and_the_token_that_ends_a_turn() -> None:
    tokenizer = made(CHATML, end="<|im_end|>", odd='<"stop">', line="<a\nb>", space=" ")
    found = lines_of(tokenizer)
    stops = [value for name, value in found if name == "stop"]
    assert stops == ["</s>", "<|im_end|>", '<"stop">', "<a\nb>", " "]


def test_parameters_and_files() -> None:
    given = {"temperature": 0.6, "top_k": 20, "repeat_penalty": 1.05, "stop": "User:"}
    text = modelfile(
        made(None, eos=""), gguf_name="my model.gguf", adapter_name="a.gguf", parameters=given
    )
    assert text.splitlines() == [
        "FROM ./my model.gguf",
        "# legacy: Ollama up to 0.34.0, on the same base",
        "ADAPTER ./a.gguf",
        'TEMPLATE """{{ .Prompt }}"""',
        "PARAMETER temperature 0.6",
        "PARAMETER top_k 20",
        "PARAMETER repeat_penalty 1.05",
        'PARAMETER stop "User:"',
    ]
