"""Built-in chat templates for base models: a conversation as plain text, every answer ended.

alpaca   "### Instruction:" and "### Response:" (Stanford Alpaca, Taori et al. 2023)
plain    "User: ..." and "Assistant: ...", a line each
chatml   "<|im_start|>role ... <|im_end|>" (OpenAI's ChatML), plain text where the tokenizer has no
         such tokens

Their sources are jinja like a model's own, for they are written into adapters and exports. A text
begins with the start token where the tokenizer puts one before every text, and an answer ends with
a token the tokenizer has, at which a generation stops, and nothing behind it. Tools and tool calls
are written as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.data.formats import Completion, Conversation
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlx_lora.data.formats import Example
    from mlx_lora.models.tokenizer import Tokenizer

Choice = Literal["auto", "none", "alpaca", "plain", "chatml"]

BUILT_IN = ("alpaca", "plain", "chatml")
_IM_END = "<|im_end|>"
_START = "{{- bos_token }}\n"
# the text of a turn: an answer may call tools and say nothing; spaces around it are none of it
_SAID = """\
  {%- set said = message.content or '' %}
  {%- if message.role == 'assistant' %}{% set said = said | trim %}{% endif %}
  {%- if message.tool_calls %}{% set said = said ~ (message.tool_calls | tojson) %}{% endif %}"""
_ALPACA = """\
{%- if tools %}{{- 'Tools: ' ~ (tools | tojson) ~ '\\n\\n' }}{% endif %}
{%- for message in messages %}
  {%- if not loop.first %}{{- '\\n\\n' }}{% endif %}
$SAID
  {%- if message.role == 'system' %}{{- said }}
  {%- elif message.role == 'user' %}{{- '### Instruction:\\n' ~ said }}
  {%- elif message.role == 'assistant' %}{{- '### Response:\\n' ~ said ~ $END }}
  {%- else %}{{- '### Tool:\\n' ~ said }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\n\\n### Response:\\n' }}{% endif %}"""
_PLAIN = """\
{%- if tools %}{{- 'Tools: ' ~ (tools | tojson) ~ '\\n' }}{% endif %}
{%- for message in messages %}
  {%- if not loop.first %}{{- '\\n' }}{% endif %}
$SAID
  {%- if message.role == 'assistant' %}{{- 'Assistant: ' ~ said ~ $END }}
  {%- else %}{{- (message.role | capitalize) ~ ': ' ~ said }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\nAssistant:' }}{% endif %}"""
_CHATML = """\
{%- if tools %}{{- '<|im_start|>tools\\n' ~ (tools | tojson) ~ $END ~ '\\n' }}{% endif %}
{%- for message in messages %}
  {%- if not loop.first %}{{- '\\n' }}{% endif %}
$SAID
  {{- '<|im_start|>' ~ message.role ~ '\\n' ~ said ~ $END }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\n<|im_start|>assistant\\n' }}{% endif %}"""
_SOURCES = {"alpaca": _ALPACA, "plain": _PLAIN, "chatml": _CHATML}


class NamedTemplate(msgspec.Struct, frozen=True):
    """A chat template; `name` is `model` for a model's own, else one of `BUILT_IN`."""

    name: str
    source: str


def deciding_example(examples: Iterable[Example]) -> Example | None:
    """The one of a dataset's examples that says which template they are put by.

    The first conversation, for it cannot do without one; else the first Alpaca row; else the first.
    None where there are none.
    """
    first: Example | None = None
    for example in examples:
        if isinstance(example, Conversation):
            return example
        if first is None or (_is_alpaca(example) and not _is_alpaca(first)):
            first = example
    return first


def choose_template(tokenizer: Tokenizer, choice: Choice, first: Example) -> NamedTemplate | None:
    """The chat template rows are put by, None where they go to the model as they are.

    `auto` takes the model's own; for a model without one, Alpaca rows take `alpaca`, conversations
    `plain`, and all others (by the `first` example, see `deciding_example`) none.
    """
    if choice == "none":
        return None
    if tokenizer.chat_template is not None and choice in ("auto", tokenizer.template_name):
        return NamedTemplate(tokenizer.template_name, tokenizer.chat_template)
    if choice in BUILT_IN:
        return built_in(tokenizer, choice)
    if isinstance(first, Conversation):
        return built_in(tokenizer, "plain")
    return built_in(tokenizer, "alpaca") if _is_alpaca(first) else None


def built_in(tokenizer: Tokenizer, name: str) -> NamedTemplate:
    """A template of `BUILT_IN` for one tokenizer."""
    ends = name == "chatml" and (len(tokenizer.encode(_IM_END)) == 1 or tokenizer.eos_id is None)
    end = f"'{_IM_END}'" if ends else _end_token(tokenizer)
    source = _SOURCES[name].replace("$SAID", _SAID).replace("$END", end)
    return NamedTemplate(name, _START + source if tokenizer.adds_bos else source)


def no_template(where: str) -> UserError:
    """Conversations for a model that has no chat template and was given none."""
    why = "this model has no chat template for conversations"
    fix = "choose --template plain, alpaca or chatml, or use an instruct model"
    return UserError("no_template", where, why, fix)


def _is_alpaca(example: Example) -> bool:
    return isinstance(example, Completion) and example.instruction


def _end_token(tokenizer: Tokenizer) -> str:
    """Jinja for the token that ends a text; some tokenizers do not name theirs."""
    if tokenizer.eos is not None:
        return "eos_token"
    text = "" if tokenizer.eos_id is None else tokenizer.token_text(tokenizer.eos_id)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
