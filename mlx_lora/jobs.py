"""What a worker can be asked to do, and how its end is judged. Sent as JSON lines on its stdin."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.events import Failed, Finished
from mlx_lora.runs import RunRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.events import Event


class Voice(msgspec.Struct, frozen=True):
    """Who answers: an adapter folder at a strength, or the base where there is none."""

    adapter: str | None = None
    strength: float = 1.0
    label: str = "base"


class TrainJob(msgspec.Struct, tag="train", frozen=True, kw_only=True):
    """Train (or go on training) a run."""

    run: str
    root: str


class ProbeJob(msgspec.Struct, tag="probe", frozen=True, kw_only=True):
    """Make three steps of a run on its heaviest batch and say what they took; nothing is kept."""

    record: RunRecord
    root: str


class FollowJob(msgspec.Struct, tag="follow", frozen=True, kw_only=True):
    """Compute a share of the run that rank 0 of MLX's launcher leads."""

    root: str


class GenerateJob(msgspec.Struct, tag="generate", frozen=True, kw_only=True):
    """Answer prompts, each by every voice, with the same settings and seed.

    `style` overrides how prompts are put; else an adapter's own way, else the model's chat template
    where it has one.
    """

    model: ModelConfig
    voices: tuple[Voice, ...]
    prompts: tuple[str, ...]
    sampling: dict[str, float]
    style: Literal["raw", "chat"] | None = None


class CompareJob(GenerateJob, tag="compare", frozen=True, kw_only=True):
    """Base and adapted side by side."""


class InspectJob(msgspec.Struct, tag="inspect", frozen=True, kw_only=True):
    """Say what a dataset is to a model: rows, tokens, what is cut or left out.

    `today` is the day a chat template may write into rows: that of the run, so that the rows it
    held out are found again. `row` shows that one row of the training file and measures nothing.
    """

    model: ModelConfig
    data: DataConfig
    seed: int
    root: str
    today: str = ""
    row: int | None = None
    batch_size: int = 4


class CleanJob(InspectJob, tag="clean", frozen=True, kw_only=True):
    """Write a copy of a dataset without what is wrong with it, as `out`; the source stays.

    `fixes` are codes of `mlx_lora.data.findings`.
    """

    out: str
    fixes: tuple[str, ...]
    overwrite: bool = False


class EvaluateJob(InspectJob, tag="evaluate", frozen=True, kw_only=True):
    """Measure base and adapter on the held-out rows of `data`, or on all its rows."""

    adapter: str | None = None
    whole: bool = False


class LlamaJob(msgspec.Struct, tag="llama", frozen=True, kw_only=True):
    """Run a GGUF file in llama.cpp: ids of `texts`, logits of `rows` into the file `logits`.

    `context` at least so many positions: some models choose their rope factors by it.
    """

    model: str
    adapter: str | None = None
    texts: tuple[str, ...] = ()
    rows: tuple[tuple[int, ...], ...] = ()
    logits: str = ""
    context: int = 0


class MeasureJob(msgspec.Struct, tag="measure", frozen=True, kw_only=True):
    """Measure what packing an adapted model to fewer bits costs; nothing but the figures is kept.

    `run` keeps them; `data` has the rows they are judged on, else a few texts of our own.
    """

    model: ModelConfig
    adapter: str
    root: str
    run: str | None = None
    data: DataConfig | None = None
    seed: int = 0
    today: str = ""


class ExportJob(MeasureJob, tag="export", frozen=True, kw_only=True):
    """Write an adapter, or the base with it merged in, as `format`, and check what was written.

    `run` keeps the verdict. `legacy` leaves the adapter beside the base, as Ollama up to 0.34.0
    takes it.
    """

    format: str
    quant: str
    out: str
    verify: bool = True
    overwrite: bool = False
    legacy: bool = False


class QuantizeJob(msgspec.Struct, tag="quantize", frozen=True, kw_only=True):
    """Pack a full-precision model to 4, 6 or 8 bit into the folder `out`, which is not there yet.

    `measure` compares it with the original on texts of ours, which reads both once more.
    """

    model: str
    bits: Literal[4, 6, 8]
    out: str
    root: str
    measure: bool = True


class DownloadJob(msgspec.Struct, tag="download", frozen=True, kw_only=True):
    """Bring a model of the hub into the cache all tools share; no engine is loaded.

    `pause` keeps what has arrived and lets the connection go; `stop` too, and the next job of this
    model goes on from there.
    """

    model: str
    root: str


class VerifyJob(msgspec.Struct, tag="verify", frozen=True, kw_only=True):
    """Look whether a model's files are what they should be; `repair` brings the damaged ones again.

    `again` also reads those whose hash was found right before.
    """

    model: str
    root: str
    repair: bool = False
    again: bool = False


class Errand(msgspec.Struct, frozen=True):
    """A short question about models; no engine is loaded."""


class SearchJob(Errand, tag="search", frozen=True, kw_only=True):
    """Say which models of the hub have `words` in their names and can be trained here."""

    words: str
    root: str
    limit: int = 30


class LookJob(Errand, tag="look", frozen=True, kw_only=True):
    """Say what a model of the hub is, before a byte of its weights is brought."""

    model: str
    root: str


class TokenJob(Errand, tag="token", frozen=True, kw_only=True):
    """Say where the hub's token is from; printing this never shows the token.

    `store` keeps `value` in the Keychain, `forget` takes it out.
    """

    act: Literal["show", "store", "forget"] = "show"
    value: str = ""

    def __repr__(self) -> str:
        return f"TokenJob(act={self.act!r})"


class DeleteJob(Errand, tag="delete", frozen=True, kw_only=True):
    """Delete a model of this machine and free the disk.

    `folders` are looked in beside the cache; `unfinished` deletes a download that was begun, and
    leaves an older version alone that is whole.
    """

    model: str
    root: str
    folders: tuple[str, ...] = ()
    even_if_used: bool = False
    unfinished: bool = False


class TalkJob(msgspec.Struct, tag="talk", frozen=True, kw_only=True):
    """Hold a base ready and answer questions (`Question`) until told to leave.

    `data`, `seed` and `today` are those of the run, so that the rows it held out are found again
    (`HeldOut`); `data_sha256` refuses data that is another one by now.
    """

    model: ModelConfig
    data: DataConfig | None = None
    seed: int = 0
    root: str = ""
    today: str = ""
    data_sha256: str = ""


Job = (
    TrainJob
    | ProbeJob
    | FollowJob
    | GenerateJob
    | CompareJob
    | EvaluateJob
    | InspectJob
    | CleanJob
    | MeasureJob
    | ExportJob
    | QuantizeJob
    | LlamaJob
    | DownloadJob
    | VerifyJob
    | SearchJob
    | LookJob
    | TokenJob
    | DeleteJob
    | TalkJob
)


# how many lines before a crash may say why
_LAST_WORDS = 5


class Command(msgspec.Struct, frozen=True):
    """What the owner says while a job runs."""

    type: Literal["stop", "pause", "resume", "save", "leave"]


class Question(msgspec.Struct, tag="ask", frozen=True, kw_only=True):
    """Answer a prompt by the base and, where `voice` names an adapter, by the adapted model too.

    `together` lets both write token by token in turns; otherwise one after the other, which needs
    the memory of one answer less. `style` as in `GenerateJob`.
    """

    id: int
    prompt: str
    sampling: dict[str, float] = {}
    voice: Voice | None = None
    style: Literal["raw", "chat"] | None = None
    together: bool = True


class HeldOut(msgspec.Struct, tag="rows", frozen=True, kw_only=True):
    """Say prompts of rows the run held out, each with its true answer."""

    count: int = 20


class Cancel(msgspec.Struct, tag="cancel", frozen=True, kw_only=True):
    """End the answer to a question where it is; one that waits is not begun."""

    id: int


Request = Question | HeldOut | Cancel


def read_command(line: bytes) -> Command | Request | None:
    """What a line on a worker's stdin asks for, or None where it is of another version."""
    for kind in (Command, Request):
        try:
            message: Command | Request = msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return message
    return None


def judge(last: Event | None, exit_code: int, stderr_tail: Sequence[str]) -> Finished | Failed:
    """How a job ended, from its last event, its exit status and the end of what it printed."""
    if isinstance(last, Finished | Failed):
        return last
    words = [line.strip() for line in stderr_tail if line.strip()][-_LAST_WORDS:]
    detail = words[-1] if words else ""
    fix = (
        "start it again (a run goes on with understudy resume); if it happens again, "
        "lower --batch-size or --max-length"
    )
    if exit_code == -signal.SIGKILL:
        why = "the system ended the worker, most often because memory ran out"
        return Failed(code="killed", where="worker", why=why, fix=fix)
    if exit_code < 0:
        known = {number.value: number.name for number in signal.Signals}
        name = known.get(-exit_code, f"signal {-exit_code}")
        said = [line for line in words if "memory" in line.lower() or "alloc" in line.lower()]
        memory, detail = bool(said), said[-1] if said else detail
        code, why = (
            ("out_of_memory", "memory ran out")
            if memory
            else ("crashed", f"the worker crashed ({name})")
        )
        return Failed(code=code, where="worker", why=f"{why} {detail}".strip(), fix=fix)
    why = f"the worker ended without a word (exit {exit_code}) {detail}".strip()
    return Failed(code="internal", where="worker", why=why, fix="send us worker.log of this run")
