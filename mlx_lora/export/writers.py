"""What each format writes and how it is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.events import Notice
from mlx_lora.export import gguf_file, merged, peft, tensor_file, verify
from mlx_lora.export.folder import TEMPLATE, write_template
from mlx_lora.export.formats import beside
from mlx_lora.export.fuse_loss import FuseLoss
from mlx_lora.export.gguf_adapter import plan_adapter
from mlx_lora.export.gguf_model import plan_model
from mlx_lora.export.ollama import write_modelfile
from mlx_lora.export.reference import Reference
from mlx_lora.export.source import Source
from mlx_lora.lora.store import copy_adapter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.events import Event
    from mlx_lora.export.gguf_file import Plan
    from mlx_lora.export.tensor_file import Group
    from mlx_lora.export.verdict import Verdict
    from mlx_lora.jobs import ExportJob
    from mlx_lora.models.loading import LoadedModel


_ADAPTER = "adapter.gguf"


class Work(msgspec.Struct, frozen=True):
    """An export under way.

    Attributes:
        folder: to fill; becomes the export when all is done.
        scratch: for what is only needed until then.
        reference: what the app itself says; None with --no-verify.
    """

    folder: Path
    scratch: Path
    reference: Reference | None

    @property
    def measured(self) -> Reference:
        """The reference, where there must be one."""
        assert self.reference is not None
        return self.reference


class Writer(ABC):
    """A format: planned when it is made, so that what cannot be written is refused at once.

    Attributes:
        quant: the precision written; a writer may settle it from what it measures.
        needs_reference: whether it must see the adapted model even when nothing is verified.
        nbytes: about how much disk it takes.
    """

    needs_reference = False
    nbytes = 0

    def __init__(self, job: ExportJob, source: Source) -> None:
        self.job, self.source, self.quant = job, source, job.quant

    def put_template(self, work: Work) -> None:
        """The built-in chat template of an adapter, as a file beside it."""
        out = Path(self.job.out)
        name = beside(out, TEMPLATE).name if out.suffix == ".gguf" else TEMPLATE
        if self.source.template:
            write_template(work.folder, self.source.template, name)

    def visit(self, base: LoadedModel, reference: Reference) -> None:  # noqa: B027
        """See the adapted model before it leaves the memory; most need not."""

    def reports(self) -> Iterator[Event]:
        """What a person should know before it is written."""
        return iter(())

    @abstractmethod
    def write(self, work: Work) -> Generator[Event, None, None]:
        """Fill the folder."""

    @abstractmethod
    def check(self, work: Work) -> Generator[Event, None, Verdict]:
        """Read it back and run it.

        Raises:
            UserError: `broken_export`.
        """


class MlxWriter(Writer):
    """The adapter folder, mlx-lm's own format."""

    def __init__(self, job: ExportJob, source: Source) -> None:
        super().__init__(job, source)
        self.nbytes = 4 * _numbers(source)

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        shape = self.source.shape
        assert shape is not None
        copy_adapter(Path(self.job.adapter), work.folder, shape, self.source.facts)
        self.put_template(work)
        yield from ()

    def check(self, work: Work) -> Generator[Event, None, Verdict]:  # noqa: D102
        return verify.verify_mlx(work.folder, self.job, work.measured, work.scratch)


class PeftWriter(Writer):
    """The adapter in PEFT's format."""

    def __init__(self, job: ExportJob, source: Source) -> None:
        super().__init__(job, source)
        self._groups = peft.plan_peft(source)
        self.nbytes = tensor_file.nbytes(self._groups)

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        peft.write_config(work.folder, self.source)
        self.put_template(work)
        yield from verify.phases(
            "writing", tensor_file.write(work.folder / peft.WEIGHTS, self._groups)
        )

    def check(self, work: Work) -> Generator[Event, None, Verdict]:  # noqa: D102
        return verify.verify_peft(work.folder, self.job, work.measured, work.scratch)


class GgufWriter(Writer):
    """The merged model as one GGUF file."""

    def __init__(self, job: ExportJob, source: Source) -> None:
        super().__init__(job, source)
        self._plan = self._planned()
        self.nbytes = self._plan.nbytes

    def _planned(self) -> Plan:
        return plan_model(self.source, self.quant)

    def reports(self) -> Iterator[Event]:  # noqa: D102
        if self._plan.remark:
            yield Notice(level="info", code="tokenizer", text=self._plan.remark)

    def file(self, work: Work) -> Path:
        """The file it writes."""
        return work.folder / self.file_name(f"{_plain(self.source.name)}-{self.quant}.gguf")

    def file_name(self, usual: str) -> str:
        """What the file is called: as asked for, where one file was."""
        out = Path(self.job.out)
        return out.name if out.suffix == ".gguf" else usual

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        yield from verify.phases("writing", gguf_file.write(self.file(work), self._plan))

    def check(self, work: Work) -> Generator[Event, None, Verdict]:  # noqa: D102
        return verify.verify_gguf(
            self._plan, self.file(work), self.source, self.quant,
            reference=work.measured, scratch=work.scratch,
        )  # fmt: skip


class GgufAdapterWriter(GgufWriter):
    """The adapter as a GGUF file for `--lora`."""

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        self.put_template(work)
        yield from super().write(work)

    def _planned(self) -> Plan:
        return plan_adapter(self.source, self.quant)

    def file(self, work: Work) -> Path:  # noqa: D102
        return work.folder / self.file_name(f"{_plain(self.source.name)}-lora-{self.quant}.gguf")

    def check(self, work: Work) -> Generator[Event, None, Verdict]:  # noqa: D102
        return verify.verify_gguf_adapter(
            self._plan, self.file(work), self.job, self.source,
            reference=work.measured, scratch=work.scratch,
        )  # fmt: skip


class OllamaWriter(GgufWriter):
    """The merged model as a GGUF file with the Modelfile Ollama makes a model from."""

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        write_modelfile(work.folder, self.source, self.file(work).name)
        yield from super().write(work)


class LegacyOllamaWriter(GgufWriter):
    """Base and adapter as two GGUF files, for an Ollama that still takes ADAPTER."""

    def __init__(self, job: ExportJob, source: Source) -> None:
        super().__init__(job, source)
        self._adapter = plan_adapter(source, "f32")

    def _planned(self) -> Plan:
        base = Source(self.job.model.source, self.job.model.bits, None)
        base.tokenizer = self.source.tokenizer  # with the chat template it is asked by
        return plan_model(base, self.quant)

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        adapter = work.folder / _ADAPTER
        write_modelfile(work.folder, self.source, self.file(work).name, adapter.name)
        yield from super().write(work)
        yield from verify.phases("writing", gguf_file.write(adapter, self._adapter))

    def check(self, work: Work) -> Generator[Event, None, Verdict]:  # noqa: D102
        base, adapter = self.file(work), work.folder / _ADAPTER
        yield from verify.phases("reading_back", gguf_file.read_back(base, self._plan))
        return (yield from verify.verify_pair(
            self._adapter, adapter, base, self.source, self.quant,
            reference=work.measured, scratch=work.scratch,
        ))  # fmt: skip


class HfWriter(Writer):
    """The merged model in Hugging Face layout."""

    def __init__(self, job: ExportJob, source: Source) -> None:
        super().__init__(job, source)
        half = merged.half_type(source)
        self.dtype = {"f16": "F16", "bf16": "BF16", "f32": "F32"}.get(job.quant, half)
        self.bits: int | None = None
        self.quant = self._precision()
        self._groups = self._planned()
        self.nbytes = tensor_file.nbytes(self._groups)
        self._written: dict[str, tuple[str, str]] = {}

    def _precision(self) -> str:
        return self.dtype.lower()

    def _planned(self) -> list[Group]:
        return merged.plan_plain(self.source, self.dtype)

    def write(self, work: Work) -> Generator[Event, None, None]:  # noqa: D102
        self._written = yield from verify.phases(
            "writing",
            merged.write_folder(work.folder, self.source, self._groups, self.dtype, self.bits),
        )

    def check(self, work: Work) -> Generator[Event, None, Verdict]:  # noqa: D102
        precision = verify.folder_class(self.quant, self.dtype)
        return verify.verify_folder(
            work.folder, self._written, precision, work.measured, work.scratch
        )


class FusedWriter(HfWriter):
    """The merged model as an MLX folder of 4, 6, 8 or 16 bit."""

    def __init__(self, job: ExportJob, source: Source) -> None:
        self._meter = FuseLoss(source, merged.half_type(source))
        super().__init__(job, source)
        self.needs_reference = job.quant in {"auto", *map(str, merged.WEIGHED)}
        self.nbytes += self._meter.nbytes() if self.needs_reference else 0

    def visit(self, base: LoadedModel, reference: Reference) -> None:  # noqa: D102
        if self.needs_reference:
            self._meter.gather(base, reference)
        if self.quant == "auto":
            self.quant = self._meter.measure(base, reference)

    def reports(self) -> Iterator[Event]:  # noqa: D102
        self._groups = self._planned()
        return self._meter.reports(self.quant)

    def _precision(self) -> str:
        return self.job.quant

    def _planned(self) -> list[Group]:
        if self.quant in {"16", "auto"}:
            self.bits = None
            return merged.plan_plain(self.source, self.dtype)
        self.bits = int(self.quant)
        return merged.plan_packed(self.source, self.bits, self.dtype, self._meter.grams)


_WRITERS: dict[str, type[Writer]] = {
    "mlx": MlxWriter,
    "peft": PeftWriter,
    "gguf-lora": GgufAdapterWriter,
    "gguf": GgufWriter,
    "hf": HfWriter,
    "mlx-fused": FusedWriter,
    "ollama": OllamaWriter,
}


def writer_for(job: ExportJob, source: Source) -> Writer:
    """The writer of a job's format.

    Raises:
        UserError: `cannot_export`.
    """
    kind = LegacyOllamaWriter if job.legacy else _WRITERS[job.format]
    return kind(job, source)


def _numbers(source: Source) -> int:
    return sum(delta.a.size + delta.b.size for delta in source.deltas.values())


def _plain(name: str) -> str:
    """A model's name as a file's."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name.rpartition("/")[2])
