"""Everything a run needs in memory: base, data, adapter, optimizer, plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora import __version__, environment
from mlx_lora.config import RunConfig
from mlx_lora.data.batching import Batch, lay_out
from mlx_lora.data.dataset import Dataset, build_dataset
from mlx_lora.data.order import Order
from mlx_lora.data.source import find_source
from mlx_lora.data.templates import BUILT_IN
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Notice, Phase, Report
from mlx_lora.lora.attach import Adapter, attach, choose_shape, total_parameters
from mlx_lora.lora.store import AdapterFacts
from mlx_lora.models.loading import LoadedModel
from mlx_lora.training import choice
from mlx_lora.training.assembly import Assembly
from mlx_lora.training.base import is_packed, open_base
from mlx_lora.training.engine import Engine, in_short
from mlx_lora.training.objective import Objective
from mlx_lora.training.optimizers import AdamW
from mlx_lora.training.peers import Peers
from mlx_lora.training.plan import Plan, make_plan
from mlx_lora.training.prefix import PrefixCache

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mlx_lora.data.render import Rendered
    from mlx_lora.runs import RunRecord


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A run in memory."""

    config: RunConfig
    base: LoadedModel
    dataset: Dataset
    adapter: Adapter
    optimizer: AdamW
    engine: Engine
    objective: Objective
    order: Order
    prefix: PrefixCache | None
    plan: Plan
    prompts: list[str]
    environment: dict[str, str]
    peers: Peers = Peers()

    def lay_out(self, step: int) -> list[Batch]:
        """This rank's part of step `step`, counted from 1, as micro-batches in NumPy arrays."""
        return [self.batch_of(rows) for rows in self._share(step)]

    def batch_of(self, rows: list[list[int]]) -> Batch:
        """One micro-batch of documents by row, in NumPy arrays."""
        length = self.order.width(rows)
        batch = lay_out([[self.dataset.training[at] for at in row] for row in rows], length)
        given = self.prefix.gather(rows, length) if self.prefix is not None else None
        return msgspec.structs.replace(batch, given=given)

    def on_device(self, batches: list[Batch]) -> list[Batch]:
        """What `lay_out` gave, as MLX arrays."""
        made = [batch.on_device() for batch in batches]
        if self.prefix is None:
            return made
        states = [self.prefix.states(batch.given) for batch in batches]
        replace = msgspec.structs.replace
        return [replace(batch, given=given) for batch, given in zip(made, states, strict=True)]

    def targets(self, step: int) -> int:
        """How many tokens all ranks together learn from in a step."""
        places = [at for rows in self._layouts(step) for row in rows for at in row]
        return sum(map(bool, (x for at in places for x in self.dataset.training[at].mask[1:])))

    def rows(self, step: int) -> list[int]:
        """Numbers in their file of the rows of a step."""
        places = [at for rows in self._layouts(step) for row in rows for at in row]
        return sorted({self.dataset.training[at].row for at in places})

    def _layouts(self, step: int) -> list[list[list[int]]]:
        count = self.config.training.grad_accumulation
        return [self.order.batch(number) for number in range((step - 1) * count, step * count)]

    def _share(self, step: int) -> list[list[list[int]]]:
        """What of a step's rows is this rank's; a micro-batch it has nothing of is left out."""
        layouts = self._layouts(step)
        if self.peers.size == 1:
            return layouts
        rows = [(number, row) for number, batch in enumerate(layouts) for row in batch]
        costs = [sum(len(self.dataset.training[at].tokens) for at in row) for _, row in rows]
        mine = [rows[at] for at in self.peers.share(costs)]
        numbers = sorted({number for number, _ in mine})
        return [[row for of, row in mine if of == number] for number in numbers]

    def validation_sample(self) -> list[Rendered]:
        """The fixed held-out rows measured inside the run: evenly spread over all of them."""
        rows, wanted = self.dataset.validation, self.config.training.eval_rows
        if len(rows) <= wanted:
            return rows
        return [rows[at * len(rows) // wanted] for at in range(wanted)]

    def facts(self, step: int) -> AdapterFacts:
        """What the adapter of a step knows about itself."""
        renderer = self.dataset.renderer
        name = renderer.tokenizer.template_name
        built_in = renderer.tokenizer.chat_template if name in BUILT_IN else None
        return AdapterFacts(
            base_name=self.base.name,
            base_fingerprint=self.base.fingerprint,
            bits=self.config.model.bits,
            prompt_style=self.dataset.prompt_style,
            template_sha256=renderer.template.sha256 if renderer.template else "",
            template_name=name if built_in else "",
            template_source=built_in or "",
            settings=msgspec.to_builtins(
                {"adapter": self.config.adapter, "training": self.config.training}
            ),
            step=step,
            version=__version__,
        )


def prepare(
    record: RunRecord, root: Path, kept: Engine | None = None, peers: Peers | None = None
) -> Generator[Event, None, Session]:
    """Load and attach everything, saying what goes on; returns the session.

    `kept` is the engine the run was begun with, if it was. Rank 0 of `peers` chooses for all.

    Raises:
        UserError: anything wrong with model, data or options.
    """
    config = record.config
    mx.random.seed(config.training.seed)
    base, base_words, dataset = yield from _open(record, root, kept)
    shape, shape_notices = choose_shape(base.module, config.adapter)
    frozen = total_parameters(base.module)
    adapter = attach(base.module, shape)
    for module in adapter.modules.values():
        module.initialize(config.training.seed)
    surroundings = environment.describe(base.form)
    maker = Assembly(config, base, dataset, adapter)
    memory = choice.memory_of(
        root, config, record.base_fingerprint, record.data_sha256, surroundings
    )
    peers = peers or Peers()
    measured: list[choice.Measured] = []
    if kept is None and peers.rank == 0:
        kept, measured = yield from maker.choose(memory)
    engine = msgspec.convert(peers.first(msgspec.to_builtins(kept)), Engine)
    if peers.size > 1:
        surroundings["processes"] = str(peers.size)
    cache = yield from maker.fill(engine)
    engine = msgspec.structs.replace(
        engine, prefix=cache is not None, base="packed" if is_packed(base) else "plain"
    )
    surroundings["engine"] = in_short(engine)
    order = maker.order(engine)
    plan = make_plan(config, order.batches_per_epoch)
    yield from [*dataset.notices, *shape_notices, *_notices(config, base, plan, dataset)]
    yield Report(kind="setup", data=_setup(base, dataset, adapter, frozen, plan))
    yield Report(kind="engine", data=maker.words(engine, measured, cache, base_words))
    return Session(
        config=config,
        base=base,
        dataset=dataset,
        adapter=adapter,
        optimizer=AdamW(base.module, config.training),
        engine=engine,
        objective=maker.objective(engine),
        order=order,
        prefix=cache,
        plan=plan,
        prompts=list(config.samples.prompts) or dataset.beginnings,
        environment=surroundings,
        peers=peers,
    )


def _open(
    record: RunRecord, root: Path, kept: Engine | None
) -> Generator[Event, None, tuple[LoadedModel, str, Dataset]]:
    """Model, what was measured of its form, and rows; each still what the run began with."""
    config = record.config
    yield Phase("loading_model")
    base, words = open_base(config, kept)
    if base.fingerprint != record.base_fingerprint:
        why, fix = (
            "the model's files are not those this run began with",
            "bring the old files back, or start a new run",
        )
        raise UserError("model_changed", base.name, why, fix)
    # what is wrong with the adapter's options is said before the data is read
    choose_shape(base.module, config.adapter)
    yield Phase("reading_data")
    source = find_source(config.data, root)
    if source.sha256() != record.data_sha256:
        why, fix = (
            "the data is not what this run began with",
            "bring the old file back, or start a new run",
        )
        raise UserError("data_changed", source.name, why, fix)
    dataset = yield from build_dataset(
        source,
        base.tokenizer,
        config.data,
        context=base.context,
        seed=config.training.seed,
        today=record.created,
    )
    return base, words, dataset


def _notices(config: RunConfig, base: LoadedModel, plan: Plan, dataset: Dataset) -> list[Notice]:
    notices = []
    if base.left_plain:
        names = ", ".join(base.left_plain)
        text = (
            f"{len(base.left_plain)} layers stay at full precision, "
            f"because no group of weights divides them: {names}."
        )
        notices.append(Notice(level="info", code="left_plain", text=text))
    limit = dataset.renderer.max_length
    if limit < config.data.max_length:
        text = f"This model reads at most {limit} tokens, so rows are cut there."
        notices.append(Notice(level="warning", code="context", text=text))
    rows = len(dataset.training)
    if rows < 10:  # noqa: PLR2004
        text = f"There are only {rows} rows to learn from; expect them to be learnt by heart."
        notices.append(Notice(level="warning", code="few_rows", text=text))
    updates = plan.steps * config.training.grad_accumulation * config.training.batch_size
    if updates < rows:
        text = f"The run ends after {updates} of {rows} rows; more steps would see them all."
        notices.append(Notice(level="info", code="partial_epoch", text=text))
    return notices


def _setup(
    base: LoadedModel, dataset: Dataset, adapter: Adapter, frozen: int, plan: Plan
) -> dict[str, Any]:
    trainable = adapter.parameter_count()
    return {
        "model": base.name,
        "form": base.form,
        "parameters": frozen,
        "trainable": trainable,
        "trainable_share": trainable / frozen,
        "adapted_layers": adapter.shape.layers,
        "adapted_modules": len(adapter.modules),
        "left_plain": list(base.left_plain),
        "data": dataset.facts,
        "steps": plan.steps,
        "memory": mx.get_active_memory(),
    }
