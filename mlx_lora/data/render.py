"""The one render path: an example to tokens and the mask of those it is trained on.

Training, validation, generation prompts and everything that shows tokens call this, so what is
shown is what is trained, and what is asked later has the form that was trained.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.data.formats import Completion, Conversation, Document, Message, Text
from mlx_lora.data.template import ChatTemplate
from mlx_lora.data.templates import choose_template, no_template
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlx_lora.config import DataConfig
    from mlx_lora.data.formats import Example
    from mlx_lora.models.tokenizer import Tokenizer

PromptStyle = Literal["raw", "chat"]
TrainOn = Literal["completions", "last", "all"]
# natural borders of a text, best first
_BORDERS = ("\n\n", "\n", ". ", " ")
# an answer no template holds in its own words
_PROBE = "~the answer~"


class Rendered(msgspec.Struct, frozen=True):
    """A row as the model sees it.

    Attributes:
        row: number of the row in its file.
        tokens: ids.
        mask: for each token, 1 where it is a target of the loss. The first token never is.
        cut: tokens that did not fit into the length limit.
        rest: those tokens, where the renderer keeps them.
        dropped: it is longer than the limit, and such rows are to be left out.
        end_cut: the end of an answer was cut off.
        stops: a token that ends a generation is learnt.
        control: a text in it holds what the model would take for a control token.
    """

    row: int
    tokens: list[int]
    mask: list[int]
    cut: int = 0
    rest: tuple[int, ...] = ()
    dropped: bool = False
    end_cut: bool = False
    stops: bool = True
    control: bool = False

    @property
    def targets(self) -> int:
        """How many tokens are learnt."""
        return sum(self.mask)


class Renderer:
    """Examples to tokens for one model.

    Attributes:
        turn_end: the token that ends an answer in the model's template, else its end token, or
            None.
        stop_ids: every id at which an answer is over.
        keeps_rest: rows keep what was cut off, for showing; training has no use for it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        train_on: TrainOn = "completions",
        today: str = "",
    ) -> None:
        self.tokenizer, self.max_length, self.train_on = tokenizer, max_length, train_on
        self.keeps_rest = False
        source = tokenizer.chat_template
        self.template = ChatTemplate(source, tokenizer.special_tokens, today) if source else None
        turn_ends = self._turn_ends()
        self.turn_end = turn_ends[-1] or tokenizer.eos
        closing = {end for end in (*turn_ends, self.turn_end) if end}
        self._closing = (
            re.compile(rf"\s*(?:{'|'.join(map(re.escape, closing))})") if closing else None
        )
        ends = tokenizer.encode(self.turn_end) if self.turn_end else []
        self.stop_ids = tokenizer.stop_ids | (set(ends) if len(ends) == 1 else set())

    def style(self, example: Example) -> PromptStyle:
        """How a prompt must be put to a model trained on such an example."""
        if isinstance(example, Conversation):
            return "chat"
        return "chat" if isinstance(example, Completion) and self.template else "raw"

    def render(self, example: Example) -> list[Rendered]:
        """The rows of an example: the blocks of a document, one row of everything else.

        Raises:
            UserError: `bad_template`, `no_template` or `bad_data`, naming the row.
        """
        if isinstance(example, Document):
            return self._blocks(example)
        if isinstance(example, Text):
            tokens = self._ended(self.tokenizer.encode_document(example.text))
            return [self._limit(example.row, tokens, [1] * len(tokens))]
        if isinstance(example, Completion) and self.template is None:
            return [self._completion(example)]
        messages = example.messages if isinstance(example, Conversation) else _as_chat(example)
        return [self._conversation(example.row, messages)]

    def render_each(self, examples: Iterable[Example]) -> Iterator[tuple[Example, list[Rendered]]]:
        """Every example with its rows, as `render` makes them, several at a time."""
        for example in examples:
            yield example, self.render(example)

    def prompt(self, text: str, style: PromptStyle) -> list[int]:
        """The ids a prompt is asked with: as an opened chat turn, or as a text to continue."""
        if style == "raw" or self.template is None:
            return self.tokenizer.encode_document(text)
        turn = Message("user", text)
        return self.tokenizer.encode(self.template.render([turn], add_generation_prompt=True))

    def _blocks(self, document: Document) -> list[Rendered]:
        """A document in blocks of at most `max_length`, cut at natural borders."""
        start_token = self.tokenizer.encode_document("")[:1]
        head = start_token if start_token == [self.tokenizer.bos_id] else []
        text, room = document.text.strip(), max(1, self.max_length - len(head))
        encoded, offsets = self.tokenizer.encode_offsets(text)
        ids, offsets = self._ended(encoded), [*offsets, (len(text), len(text))]
        rows: list[Rendered] = []
        start = 1 if head and ids[:1] == head else 0  # the text may begin with the start token
        while start < len(ids):
            stop = min(start + room, len(ids))
            if stop < len(ids):  # the end token alone would be nothing to learn
                stop = _border(text, offsets, start, max(start + 1, min(stop, len(ids) - 2)))
            tokens = head + ids[start:stop]
            rows.append(self._limit(len(rows) + 1, tokens, [1] * len(tokens)))
            start = stop
        return rows

    def _completion(self, example: Completion) -> Rendered:
        """Without a template: the prompt as it will be asked, then the answer."""
        prompt = raw_prompt(example)
        before = self.tokenizer.encode_document(prompt)
        whole = self.tokenizer.encode_document(prompt + example.completion)
        if whole[: len(before)] != before:
            whole = before + self.tokenizer.encode_inside(example.completion)
        tokens = self._ended(whole)
        mask = [int(self.train_on == "all" or at >= len(before)) for at in range(len(tokens))]
        return self._limit(example.row, tokens, mask)

    def _conversation(self, row: int, messages: tuple[Message, ...]) -> Rendered:
        if self.template is None:
            raise no_template(f"row {row}")
        try:
            text = self.template.render(messages, add_generation_prompt=False)
            spans = (
                [(0, len(text))] if self.train_on == "all" else self._answers(row, messages, text)
            )
        except UserError as error:
            raise UserError(
                error.code, f"row {row}, {error.where}", error.why, error.fix
            ) from error
        tokens, offsets = self.tokenizer.encode_offsets(text)
        mask = [int(any(begin <= first < end for begin, end in spans)) for first, _ in offsets]
        if messages[-1].role == "assistant" and not self.stop_ids & set(tokens[-3:]):
            tokens = self._ended(tokens)
            mask += [1] * (len(tokens) - len(mask))
        return self._limit(row, tokens, mask)

    def _answers(self, row: int, messages: tuple[Message, ...], text: str) -> list[tuple[int, int]]:
        """Where the assistant's turns are in the text, each with the token that ends it."""
        spans, at = [], 0
        for index, message in enumerate(messages):
            content = message.content.strip()
            if not content:
                continue
            opened = self._opened(messages[:index], text) if message.role == "assistant" else 0
            found = self._find(content, text, opened or at, answer=message.role == "assistant")
            if found < 0:
                if message.role != "assistant":
                    continue
                fix = "use another model, or rows of prompt + completion"
                raise UserError(
                    "bad_template", f"row {row}", "the template leaves an answer out", fix
                )
            at = found + len(content)
            if message.role == "assistant":
                spans.append((opened or found, self._closed(text, at)))
        return spans[-1:] if self.train_on == "last" else spans

    def _opened(self, before: tuple[Message, ...], text: str) -> int:
        """Start of an answer: where the generation prompt ends; 0 where the text has none."""
        if self.template is None or not before:
            return 0
        try:
            opened = self.template.render(before, add_generation_prompt=True)
        except UserError:
            return 0
        return len(opened) if text.startswith(opened) else 0

    def _find(self, content: str, text: str, at: int, *, answer: bool) -> int:
        """Where a turn's content is; an answer rather where the end of a turn follows it."""
        first = found = text.find(content, at)
        while answer and found >= 0:
            end = found + len(content)
            if self._closed(text, end) > end:
                return found
            found = text.find(content, found + 1)
        return first

    def _closed(self, text: str, end: int) -> int:
        """End of an answer: behind the token that ends a turn, where it follows."""
        closing = self._closing.match(text, end) if self._closing else None
        return closing.end() if closing else end

    def _turn_ends(self) -> list[str | None]:
        """The special tokens behind the answers of a small conversation, the last one last."""
        if self.template is None:
            return [None]
        turns = (Message("user", "question"), Message("assistant", _PROBE))
        try:
            text = self.template.render((*turns, *turns), add_generation_prompt=False)
        except UserError:
            return [None]
        behind = [part.lstrip() for part in text.split(_PROBE)[1:]]
        special = self.tokenizer.special_texts
        ends = [next((s for s in special if part.startswith(s)), None) for part in behind]
        return ends or [None]

    def _ended(self, tokens: list[int]) -> list[int]:
        """With the end token, once."""
        end = self.tokenizer.eos_id
        return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]

    def _limit(self, row: int, tokens: list[int], mask: list[int]) -> Rendered:
        """Cut to the length limit; the first token follows nothing, so it is no target."""
        kept, mask = tokens[: self.max_length], mask[: self.max_length]
        rest = tuple(tokens[self.max_length :]) if self.keeps_rest else ()
        return Rendered(row, kept, [0, *mask[1:]], len(tokens) - len(kept), rest)


def make_renderer(
    tokenizer: Tokenizer, data: DataConfig, context: int | None, today: str, first: Example
) -> Renderer:
    """The render path of a dataset whose first example is `first`."""
    limit = min(data.max_length, context or data.max_length)
    chosen = choose_template(tokenizer, data.template, first)
    name, source = (chosen.name, chosen.source) if chosen else ("none", None)
    return Renderer(tokenizer.with_template(name, source), limit, data.train_on, today)


def raw_prompt(example: Completion) -> str:
    """The text before the answer for a model without a chat template."""
    if not example.instruction:
        return example.prompt
    return f"### Instruction:\n{example.prompt}\n\n### Response:\n"


def _as_chat(example: Completion) -> tuple[Message, ...]:
    return (Message("user", example.prompt), Message("assistant", example.completion))


def _border(text: str, offsets: list[tuple[int, int]], start: int, stop: int) -> int:
    """The last token behind a natural border in the second half of the block."""
    for border in _BORDERS:
        for at in range(stop, start + (stop - start) // 2, -1):
            begin = offsets[at][0]
            if (
                text[max(0, begin - len(border)) : begin] == border
                or text[begin : begin + 1] == border
            ):
                return at
    return stop
