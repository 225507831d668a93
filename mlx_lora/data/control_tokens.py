"""Control tokens a person typed into a message: plain text to the model, never a token that steers.

A row is rendered a second time with every such text broken by a sign; the control tokens still
whole then are the template's own. Only those are control tokens when the row is encoded.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import tokenizers

    from mlx_lora.data.formats import Message
    from mlx_lora.data.template import ChatTemplate
    from mlx_lora.models.tokenizer import Tokenizer

# noncharacters, which Unicode keeps out of every text that is exchanged
SIGNS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
_MARK = "\ufdee\ufdef\ufdee"


class Typed(msgspec.Struct, frozen=True):
    """A rendered text with control tokens that somebody typed.

    Attributes:
        own: where the control tokens stand that the template wrote, ascending.
    """

    text: str
    own: list[int]

    def marked(self) -> str:
        """The text with a mark before each of the template's control tokens."""
        cuts = pairwise([0, *self.own, len(self.text)])
        return _MARK.join(self.text[begin:end] for begin, end in cuts)

    def place(self, at: int) -> int:
        """Where a character of the text is in the marked one; a token from its mark on."""
        return at + len(_MARK) * bisect_left(self.own, at)


class ControlTokens:
    """What a person's text must not become, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        texts = [text for text in tokenizer.control_texts if len(text) > 1]
        self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None

    def typed_in(self, messages: Sequence[Message], tools: Sequence[Any]) -> bool:
        """Whether somebody typed one."""
        pattern = self._pattern
        if pattern is None:
            return False
        if any(pattern.search(message.content) for message in messages):
            return True
        extras = [message.extra for message in messages if message.extra]
        return bool(extras or tools) and any(map(pattern.search, _strings([extras, list(tools)])))

    def typed(
        self,
        template: ChatTemplate,
        turns: Sequence[Message],
        tools: Sequence[Any],
        text: str,
        *,
        opened: bool,
    ) -> Typed:
        """Which control tokens of `text`, a rendered conversation, the template wrote.

        Where a template takes those of an answer for its own (a thought it leaves out of earlier
        turns), they are.
        """
        sign = next((sign for sign in SIGNS if sign not in text), SIGNS[0])
        defined = self._broken(tools, sign)
        for spared in ((), ("assistant",), ("assistant", "tool", "system")):
            broken = [t if t.role in spared else self._broken_turn(t, sign) for t in turns]
            try:
                signed = template.render(broken, add_generation_prompt=opened, tools=defined)
            except UserError:
                continue
            if signed.replace(sign, "") == text:
                return Typed(text, list(self._own(signed, sign)))
        return Typed(text, list(self._own(text, sign)))

    def encode(self, typed: Typed) -> tokenizers.Encoding:
        """The marked text, encoded by `twin`."""
        return self._twin[0].encode(typed.marked(), add_special_tokens=False)

    def ids(self, encoding: tokenizers.Encoding) -> list[int]:
        """This tokenizer's ids."""
        own = self._twin[1]
        return [own.get(number, number) for number in encoding.ids]

    @property
    def _twin(self) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        return self._tokenizer.marked_twin(_MARK)

    def _own(self, signed: str, sign: str) -> Iterator[int]:
        assert self._pattern is not None
        for found in self._pattern.finditer(signed):
            yield found.start() - signed.count(sign, 0, found.start())

    def _broken_turn(self, turn: Message, sign: str) -> Message:
        content, extra = self._broken(turn.content, sign), self._broken(turn.extra, sign)
        return msgspec.structs.replace(turn, content=content, extra=extra)

    def _broken(self, value: Any, sign: str) -> Any:
        """The same with a sign behind the first character of every control token in its texts."""
        if isinstance(value, str):
            assert self._pattern is not None
            while self._pattern.search(value):
                value = self._pattern.sub(lambda m: m[0][0] + sign + m[0][1:], value)
            return value
        if isinstance(value, dict):
            return {self._broken(k, sign): self._broken(v, sign) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._broken(part, sign) for part in value]
        return value


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(key)
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
