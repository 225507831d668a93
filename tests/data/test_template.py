"""Chat templates are foreign code: contained, limited, and rendered as their authors meant."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from mlx_lora.data.formats import Message
from mlx_lora.data.template import CHARACTERS, ChatTemplate
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

TURNS = (Message("user", "Hello?"), Message("assistant", "Good day."))
TEMPLATES = [
    "HuggingFaceTB-SmolLM3-3B",
    "LFM2-8B-A1B",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "google-gemma-2-2b-it",
    "google-gemma-4-31B-it",
    "meta-llama-Llama-3.2-3B-Instruct",
    "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "openai-gpt-oss-120b",
]


def render(source: str, turns: tuple[Message, ...] = TURNS, *, prompt: bool = False) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(turns, add_generation_prompt=prompt)


def refused(source: str) -> UserError:
    with pytest.raises(UserError) as caught:
        render(source)
    assert caught.value.code == "bad_template"
    return caught.value


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['jinja2'] }}",
        "{{ strftime_now.__self__.sleep(9) }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ '{0.__class__.__mro__}'.format_map({'0': 1}) }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ messages.clear() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ lipsum.__globals__.os.system('touch /tmp/us-escaped') }}",
        "{% import 'os' as os %}",
        "{% include '/etc/passwd' %}",
        "{% extends 'base' %}",
        "{{ import('os') }}",
        "{{ open('/etc/passwd').read() }}",
        "{% for n in range(1000000000) %}{% endfor %}",
        "{{ range(1000000000)|list }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    refused(source)


def test_attributes_are_not_reached_through_a_filter() -> None:
    assert render("[{{ ''|attr('__class__')|attr('__mro__') }}]") == "[]"


def test_small_sums_and_formats_are_allowed() -> None:
    source = (
        "{{ '=' * 40 }}{{ [0] * 2 }}{{ 2 ** 10 }}{{ 2.0 * 3 }}{{ 7 % 4 }}{{ '%03d' % 5 }}"
        "{{ '{:>4}'.format(1) }}{{ 'a'.ljust(3) }}{{ 'a'|center(3) }}{{ 1.25|round(1) }}"
    )
    assert render(source) == "=" * 40 + "[0, 0]10246.03005   1a   a 1.2"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}",
        "{% set n = namespace(x=0) %}{% for a in range(99999) %}{% for b in range(99999) %}"
        "{% set n.x = n.x + 1 %}{% endfor %}{% endfor %}",
    ],
)
def test_a_loop_without_end_is_stopped_after_a_second(source: str) -> None:
    before = time.monotonic()
    error = refused(source)
    assert time.monotonic() - before < 3
    assert "longer than 1 s" in error.why


@pytest.mark.parametrize(
    "source",
    [
        "{{ 9 ** (9 ** (9 ** 9)) }}",
        "{% set n = 9 %}{{ n ** 99999999 }}",
        "{{ 'a' * 100000000000 }}",
        "{% set a = 'a' * 90000 %}{{ a * 90000 * 90000 }}",
        "{% set a = [0] * 90000 %}{{ a * 90000 * 90000 }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ 'a'|center(100000000000) }}",
        "{{ 'a'.ljust(100000000000) }}",
        "{{ '{:>99999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 99999999999) }}",
        "{{ '%*d' % (99999999999, 1) }}",
        "{{ '%99999999999d'|format(1) }}",
        "{{ [1]|batch(99999999999, 0)|list }}",
        "{{ 1.5|round(99999999, 'ceil') }}",
        "{{ 'a\nb'|indent(99999999999) }}",
        "{{ 9 * 9999999 ** 999 }}{% set n = namespace(x=9 ** 900) %}"
        "{% for a in range(40) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    ],
)
def test_giant_values_and_recursion_are_refused_at_once(source: str) -> None:
    before = time.monotonic()
    refused(source)
    assert time.monotonic() - before < 3


@pytest.mark.parametrize(
    "source",
    [
        "{% if %}",
        "{{ messages ",
        "{% for m in messages %}",
        "{{ nothing.of.this }}",
        "{{ messages[7].content }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ messages|no_such_filter }}",
        "{{ strftime_now(5) }}",
        "{% for n in [1] %}" * 40 + "{% endfor %}" * 40,
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ " + "-" * 5000 + "1 }}",
        "{{ namespace(1, 2, 3) }}",
        "{{ [1, 'a']|sort }}",
        "{{ 'x'.encode('idna', 'no') }}",
    ],
)
def test_a_faulty_template_fails_in_words(source: str) -> None:
    refused(source)


def test_a_megabyte_is_the_most() -> None:
    assert (
        "1,000,000 characters"
        in refused("{% for n in range(2000) %}" + "x" * 999 + "{% endfor %}").why
    )
    assert len(render("{% for n in range(1000) %}" + "x" * 1000 + "{% endfor %}")) == CHARACTERS


def test_a_refusal_of_its_own_is_passed_on() -> None:
    source = "{% if messages[0].role == 'user' %}{{ raise_exception('No users here!') }}{% endif %}"
    assert "No users here!" in refused(source).why


def test_what_transformers_offers_is_there() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
        "{{ m|tojson }}{% endfor %}{{ {'b': '<é>', 'a': 1}|tojson(indent=1, sort_keys=true) }}"
        "{{ strftime_now('%Y')|length }}{{ eos_token }}{{ pad_token is defined }}"
    )
    wanted = '<s>{"role": "assistant", "content": "Good day."}{\n "a": 1,\n "b": "<é>"\n}4</s>False'
    assert render(source) == wanted


def test_its_hash_is_that_of_its_source() -> None:
    a, b = ChatTemplate("a", {}), ChatTemplate("b", {})
    assert a.sha256 != b.sha256
    assert a.sha256 == ChatTemplate("a", {"bos_token": "x"}).sha256


def test_the_timer_is_put_back() -> None:
    import signal

    def mine(_signal: int, _frame: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGALRM, mine)
    try:
        render("x")
        refused("{{ raise_exception('x') }}")
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_another_thread_may_not_render() -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            render("x")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_templates_of_ten_families_render_a_conversation(shared: Path, name: str) -> None:
    source = (shared / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    text = render(source)
    assert text.count("Hello?") == 1
    assert text.count("Good day.") == 1
    assert text.index("Hello?") < text.index("Good day.")
    asked = render(source, TURNS[:1], prompt=True)
    assert "Hello?" in asked
    assert len(asked) > len(render(source, TURNS[:1])) or "Mistral" in name


def test_a_day_that_is_given_is_the_day_that_is_written() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", {}, "2026-02-03")
    assert template.render([], add_generation_prompt=False) == "03 Feb 2026"
