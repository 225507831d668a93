"""The one render path: an example to tokens and the mask of those it is trained on.

Training, validation, generation prompts and everything that shows tokens call this, so what is
shown is what is trained, and what is asked later has the form that was trained.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from mlx_lora.data.control_tokens import ControlTokens
from mlx_lora.data.formats import Completion, Conversation, Document, Message, Text
from mlx_lora.data.rendered import Rendered
from mlx_lora.data.spans import Answers
from mlx_lora.data.template import ChatTemplate
from mlx_lora.data.templates import built_in, choose_template, no_template
from mlx_lora.data.windows import Limit
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tokenizers import Encoding

    from mlx_lora.config import DataConfig
    from mlx_lora.data.control_tokens import Typed
    from mlx_lora.data.formats import Example
    from mlx_lora.data.spans import Span
    from mlx_lora.data.templates import NamedTemplate
    from mlx_lora.data.windows import LongRowsChoice
    from mlx_lora.models.tokenizer import Tokenizer

__all__ = ["PromptStyle", "Rendered", "Renderer", "TrainOn", "make_renderer", "raw_prompt"]

PromptStyle = Literal["raw", "chat"]
TrainOn = Literal["completions", "last", "all"]
# what is encoded together at most: examples, and characters where they are long
_TOGETHER, _CHARACTERS = 128, 1_000_000


class _Draft(NamedTuple):
    """An example up to where its texts are encoded, which is done for many at once.

    Attributes:
        texts: to encode, each with its `start` token or as it stands.
        finish: their encodings to rows.
    """

    finish: Callable[[Sequence[Encoding]], list[Rendered]]
    texts: tuple[str, ...] = ()
    start: bool = False


class Renderer:
    """Examples to tokens for one model.

    Attributes:
        turn_end: the token that ends an answer in the model's template, else its end token, or
            None.
        end_id: the id of that token, or None.
        stop_ids: every id at which an answer is over.
        keeps_rest: rows keep what was cut off, for showing; training has no use for it.

    The `spare` template is taken up by the first conversation where the tokenizer has none.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        train_on: TrainOn = "completions",
        today: str = "",
        *,
        long_rows: LongRowsChoice = "cut",
        overlap: int = 0,
        spare: NamedTemplate | None = None,
    ) -> None:
        self.max_length, self.train_on = max_length, train_on
        self.keeps_rest = False
        self._limit = Limit(max_length, long_rows, overlap, tokenizer.bos_id)
        self._today, self._spare = today, spare
        self._put_by(tokenizer)

    def _put_by(self, tokenizer: Tokenizer) -> None:
        """Take up a tokenizer and its template."""
        self.tokenizer, source = tokenizer, tokenizer.chat_template
        self.template = (
            ChatTemplate(source, tokenizer.special_tokens, self._today) if source else None
        )
        self._control = ControlTokens(tokenizer)
        turn_ends: list[str | None] = [None]
        if self.template is not None:
            self._answers = Answers(self.template, tokenizer.special_texts)
            turn_ends = self._answers.turn_ends
        self.turn_end = turn_ends[-1] or tokenizer.eos
        if self.template is not None:
            self._answers.close_with({end for end in (*turn_ends, self.turn_end) if end})
        ends = tokenizer.encode(self.turn_end) if self.turn_end else []
        self.end_id = ends[0] if len(ends) == 1 else tokenizer.eos_id
        self.stop_ids = tokenizer.stop_ids | (set(ends) if len(ends) == 1 else set())

    def style(self, example: Example) -> PromptStyle:
        """How a prompt must be put to a model trained on such an example."""
        if isinstance(example, Conversation):
            return "chat"
        return "chat" if isinstance(example, Completion) and self.template else "raw"

    def render(self, example: Example) -> list[Rendered]:
        """The rows of an example: blocks of a document, windows of a long text, else one row.

        Raises:
            UserError: `bad_template`, `no_template` or `bad_data`, naming the row.
        """
        drafts = [self._draft(example)]
        return next(self._finished(drafts, self._encoded(drafts)))

    def render_each(self, examples: Iterable[Example]) -> Iterator[tuple[Example, list[Rendered]]]:
        """Every example with its rows, as `render` makes them, several encoded at a time.

        Raises:
            UserError: as `render`, after all rows before that one.
        """
        rest = iter(examples)
        with ThreadPoolExecutor(1) as background:
            batch, drafts, fault = self._drafted(rest)
            while batch:
                # more is drafted while these are encoded, which needs no Python
                encoding = background.submit(self._encoded, drafts)
                following = self._drafted(rest) if fault is None else ([], [], None)
                yield from zip(batch, self._finished(drafts, encoding.result()), strict=False)
                if fault is not None:
                    raise fault
                batch, drafts, fault = following

    def prompt(self, text: str, style: PromptStyle) -> list[int]:
        """The ids a prompt is asked with: as an opened chat turn, or as a text to continue."""
        if style == "raw" or self.template is None:
            return self.tokenizer.encode_document(text)
        turns = [Message("user", text)]
        put = self.template.render(turns, add_generation_prompt=True)
        if not self._control.typed_in(turns, ()):
            return self.tokenizer.encode(put)
        typed = self._control.typed(self.template, turns, (), put, opened=True)
        return self._control.ids(self._control.encode(typed))

    def _drafted(
        self, examples: Iterator[Example]
    ) -> tuple[list[Example], list[_Draft], UserError | None]:
        """The next examples, drafted up to one that cannot be, and why it cannot."""
        batch: list[Example] = []
        drafts, size = list[_Draft](), 0
        while len(batch) < _TOGETHER and size < _CHARACTERS:
            example = next(examples, None)
            if example is None:
                break
            batch.append(example)
            try:
                drafts.append(self._draft(example))
            except UserError as error:
                return batch, drafts, error
            size += sum(map(len, drafts[-1].texts))
        return batch, drafts, None

    def _draft(self, example: Example) -> _Draft:
        if isinstance(example, Document):
            return _Draft(lambda _: self._blocks(example))
        if isinstance(example, Text):
            return _Draft(partial(self._text, example), (example.text,), start=True)
        if isinstance(example, Completion) and self.template is None:
            prompt = raw_prompt(example)
            texts = (prompt, prompt + example.completion)
            return _Draft(partial(self._completion, example), texts, start=True)
        if isinstance(example, Conversation):
            return self._conversation(example.row, example.messages, example.tools)
        return self._conversation(example.row, _as_chat(example), ())

    def _encoded(self, drafts: Sequence[_Draft]) -> dict[bool, Iterator[Encoding]]:
        """All texts, those with their start token and those without."""
        texts = {
            start: [text for draft in drafts if draft.start == start for text in draft.texts]
            for start in (False, True)
        }
        encode = self.tokenizer.encode_each
        return {start: iter(encode(some, start=start)) for start, some in texts.items() if some}

    def _finished(
        self, drafts: Sequence[_Draft], encodings: dict[bool, Iterator[Encoding]]
    ) -> Iterator[list[Rendered]]:
        for draft in drafts:
            some = encodings.get(draft.start, iter(()))
            yield draft.finish(list(itertools.islice(some, len(draft.texts))))

    def _blocks(self, document: Document) -> list[Rendered]:
        """A document in blocks of at most `max_length`, cut at natural borders."""
        head = self._limit.head(self.tokenizer.encode_document("")[:1])
        windows = self._windows(document.text.strip(), head)
        return [
            self._row(at, tokens, mask, stops=True) for at, (tokens, mask) in enumerate(windows, 1)
        ]

    def _windows(self, text: str, head: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        encoded, offsets = self.tokenizer.encode_offsets(text)
        ids = self._ended(encoded)
        return self._limit.windows(text, head, ids, [*offsets, (len(text), len(text))])

    def _text(self, example: Text, encodings: Sequence[Encoding]) -> list[Rendered]:
        tokens = self._ended(self.tokenizer.undoubled(encodings[0].ids))
        if self._limit.choice == "split" and len(tokens) > self.max_length:
            windows = self._windows(example.text, self._limit.head(tokens))
            return [self._row(example.row, ids, mask, stops=True) for ids, mask in windows]
        return [self._row(example.row, tokens, [1] * len(tokens))]

    def _completion(self, example: Completion, encodings: Sequence[Encoding]) -> list[Rendered]:
        """Without a template: the prompt as it will be asked, then the answer."""
        before, whole = (self.tokenizer.undoubled(encoding.ids) for encoding in encodings)
        if whole[: len(before)] != before:
            whole = before + self.tokenizer.encode_inside(example.completion)
        tokens = self._ended(whole)
        masked = 0 if self.train_on == "all" else min(len(before), len(tokens))
        return [self._row(example.row, tokens, [0] * masked + [1] * (len(tokens) - masked))]

    def _conversation(
        self, row: int, turns: tuple[Message, ...], tools: tuple[dict[str, Any], ...]
    ) -> _Draft:
        if self.template is None and self._spare is not None:
            self._put_by(self.tokenizer.with_template(self._spare.name, self._spare.source))
        if self.template is None:
            raise no_template(f"row {row}")
        typed = None
        try:
            text = self.template.render(turns, add_generation_prompt=False, tools=tools)
            spans = self._spans(turns, tools, text)
            if self._control.typed_in(turns, tools):
                typed = self._control.typed(self.template, turns, tools, text, opened=False)
        except UserError as error:
            where = f"row {row}, {error.where}"
            raise UserError(error.code, where, error.why, error.fix) from error
        open_end = turns[-1].role == "assistant"
        if typed is not None:
            return _Draft(lambda _: self._typed(row, typed, spans, open_end=open_end))
        return _Draft(
            lambda e: [self._chat(row, e[0].ids, _mask(e[0], spans), open_end=open_end)],
            (text,),
        )

    def _spans(self, turns: Sequence[Message], tools: Sequence[Any], text: str) -> list[Span]:
        if self.train_on == "all":
            return [(0, len(text))]
        spans = self._answers.find(turns, tools, text)
        return spans[-1:] if self.train_on == "last" else spans

    def _typed(
        self, row: int, typed: Typed, spans: list[Span], *, open_end: bool
    ) -> list[Rendered]:
        """A conversation in which somebody typed control tokens."""
        encoding = self._control.encode(typed)
        mask = _mask(encoding, [(typed.place(a), typed.place(b)) for a, b in spans])
        made = self._chat(row, self._control.ids(encoding), mask, open_end=open_end)
        return [msgspec.structs.replace(made, control=True)]

    def _chat(self, row: int, tokens: list[int], mask: list[int], *, open_end: bool) -> Rendered:
        """A conversation's row; where nothing ends its last answer, the end token does."""
        if open_end and not self.stop_ids & set(tokens[-3:]):
            tokens = self._ended(tokens)
            mask += [1] * (len(tokens) - len(mask))
        return self._row(row, tokens, mask)

    def _ended(self, tokens: list[int]) -> list[int]:
        """With the end token, once."""
        end = self.tokenizer.eos_id
        return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]

    def _row(
        self, row: int, tokens: list[int], mask: list[int], *, stops: bool | None = None
    ) -> Rendered:
        """Within the length limit; `stops` where a token that ends a generation is learnt."""
        if stops is None:
            backwards = zip(reversed(tokens), reversed(mask), strict=True)
            stops = any(learnt and token in self.stop_ids for token, learnt in backwards)
        whole = Rendered(row, tokens, mask, stops=stops)
        return self._limit.fit(whole, keep_rest=self.keeps_rest)


def make_renderer(
    tokenizer: Tokenizer, data: DataConfig, context: int | None, today: str, first: Example
) -> Renderer:
    """The render path of a dataset; `first` is its `deciding_example`, as far as it is read."""
    chosen = choose_template(tokenizer, data.template, first)
    name, source = (chosen.name, chosen.source) if chosen else ("none", None)
    # a conversation may come where none was seen before
    spare = built_in(tokenizer, "plain") if chosen is None and data.template == "auto" else None
    return Renderer(
        tokenizer.with_template(name, source),
        min(data.max_length, context or data.max_length),
        data.train_on,
        today,
        long_rows=data.long_rows,
        overlap=data.overlap,
        spare=spare,
    )


def raw_prompt(example: Completion) -> str:
    """The text before the answer for a model without a chat template."""
    before = f"{example.system}\n\n" if example.system else ""
    if not example.instruction:
        return before + example.prompt
    return f"{before}### Instruction:\n{example.prompt}\n\n### Response:\n"


def _as_chat(example: Completion) -> tuple[Message, ...]:
    turns = (Message("user", example.prompt), Message("assistant", example.completion))
    return (Message("system", example.system), *turns) if example.system else turns


def _mask(encoding: Encoding, spans: Sequence[Span]) -> list[int]:
    """1 for the tokens that begin within a span of characters."""
    count, mask, done = len(encoding), list[int](), 0

    def begin(token: int) -> int:
        return (encoding.token_to_chars(token) or (0, 0))[0]

    for first, last in spans:
        start = bisect_left(range(count), first, key=begin)
        stop = bisect_left(range(count), last, start, key=begin)
        mask += [0] * (start - done) + [1] * (stop - start)
        done = stop
    return mask + [0] * (count - done)
