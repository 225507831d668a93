"""The Dataset page: nothing yet, reading, every way it can fail, and what was read."""
# ruff: noqa: E501 (rows are easier to read on one line)

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from PySide6.QtGui import QGuiApplication

from app.jobs import Job
from app.project import DataChoice, ModelChoice
from app.widgets.paste_sheet import PasteSheet
from mlx_lora import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application
    from app.pages.dataset import DatasetPage


QWEN = ModelChoice("Qwen/Qwen3-0.6B", "Qwen3 0.6B", "4-bit")
TICKETS = DataChoice("~/Documents/support_tickets.jsonl", "support_tickets.jsonl")
_ROWS = (
    ("Summarise this ticket for a handover note: pairing fails since Tuesday", "Pairing fails after firmware 2.4; workaround sent, waiting for the customer.", 412),
    ("Rewrite politely: send me the file today or I will cancel", "Could you please send the file over today? I need it before I can go on.", 87),
    ("What is our refund window for annual plans?", "Annual plans can be refunded in full within 30 days.", 134),
    ("Classify the sentiment: \u2018the new update ruined everything\u2019", "negative", 38),
    ("Draft a reply to an angry customer about the late delivery", "Hi Sam, thank you for telling us, and I\u2019m sorry about the wait.", 305),
    ("Translate to German: your order has shipped", "Ihre Bestellung wurde versandt.", 41),
    ("Extract the order number: re: order 88-1042-A, still missing", "88-1042-A", 29),
    ("Explain single sign-on for Okta, step by step", "1. In Okta Admin, open Applications \u2192 Create App Integration.", 2318),
    ("Summarise the call transcript in three bullet points", "\u2022 Renewal agreed for 12 months \u2022 Wants a quote by Friday", 1102),
    ("Who owns the escalation queue on weekends?", "", 0),
)  # fmt: skip


class SilentJob(Job):
    """A job without a worker: what it would say is emitted by the scene."""

    def start(self) -> None:
        """Nothing happens."""
        self.state = "running"


def feed(application: Application, *said: events.Event, end: events.Event | None = None) -> None:
    """Let the worker of the inspection say something."""
    inspection = application.inspection
    if inspection.job is None:
        inspection.refresh()
    job = inspection.job
    assert job is not None
    for event in said:
        job.said.emit(event)
    if end is not None:
        job.state = "ended"
        job.ended.emit(end)


def open_page(
    application: Application,
    model: ModelChoice | None = QWEN,
    data: DataChoice | None = TICKETS,
) -> DatasetPage:
    """The page, with a silent worker."""
    application.inspection.worker = SilentJob
    name = "Support tickets" if data is TICKETS else "Untitled"
    application.project.update(name=name, model=model, data=data)
    application.window.go("dataset")
    page: Any = application.window.page
    return page


def report(**changes: Any) -> events.Report:
    """What the worker says of the tickets."""
    counts = [round(520 * math.exp(-(((at - 5) / 4.2) ** 2))) for at in range(22)]
    counts[-1] += 23
    facts = {
        "name": "support_tickets", "formats": {"completion": 4812}, "prompt_style": "chat",
        "training_rows": 4329, "validation_rows": 481, "training_targets": 402_118,
        "median_tokens": 241, "longest_tokens": 512, "cut_rows": 23, "rows_read": 4812,
        "last_row": 4812, "tokens": 1_309_724, "trained_tokens": 446_798,
        "masked_tokens": 844_204, "cut_tokens": 18_722, "mean_tokens": 272.2, "p95_tokens": 498,
        "limit": 512, "own_validation": False, "columns": ["prompt", "completion"],
        "histogram": {"edges": [*range(0, 551, 25)], "counts": counts}, "stamp": "train:6412800:1",
        "issues": [
            {"code": "cut", "split": "train", "count": 23, "rows": [8, 9, 4711]},
            {"code": "empty", "split": "train", "count": 2, "rows": [10, 96]},
            {"code": "duplicate", "split": "train", "count": 14, "rows": [512, 600]},
        ],
    }  # fmt: skip
    return events.Report(kind="inspect", data={**facts, **changes})


def rows(number: int = 60) -> events.Report:
    """The first rows."""
    made = []
    for at in range(number):
        prompt, completion, tokens = _ROWS[at % len(_ROWS)]
        made.append({
            "row": at + 1, "values": {"prompt": prompt, "completion": completion},
            "tokens": tokens, "cut": max(0, tokens - 512), "left_out": "" if tokens else "empty",
        })  # fmt: skip
    return events.Report(kind="preview", data={"start": 0, "rows": made})


def pieces(row: int, *, cut: bool = False) -> events.Report:
    """A row as the model sees it."""
    head = ("<|im_start|>", "user", "\n", "What", " is", " our", " refund", " window", " for", " annual", " plans", "?", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n")  # fmt: skip
    answer = ("<think>", "\n\n", "</think>", "\n\n", "Annual", " plans", " can", " be", " refund", "ed", " in", " full", " within", " ", "3", "0", " days", ".", "\t", "Ask", " for", " it", " at", " any", " desk", ".", "<|im_end|>")  # fmt: skip
    made = [[text, "masked"] for text in head] + [[text, "trained"] for text in answer]
    if cut:
        more = (" Monthly", " plans", " are", " not", " refund", "ed", ",", "\n", "but", " can", " be", " paused", ".") * 3  # fmt: skip
        made = made[:-1] + [[text, "trained"] for text in more]
        made += [[text, "cut"] for text in more[:17]]
    data = {"row": row, "tokens": len(made), "start": 0, "pieces": made}
    return events.Report(kind="pieces", data=data)


DONE = events.Finished(reason="done")


def _empty(application: Application) -> None:
    open_page(application, data=None)


def _needs_model(application: Application) -> None:
    open_page(application, model=None)


def _reading(application: Application) -> None:
    page = open_page(application)
    feed(application, events.Phase("rendering", 1204, 4812))
    page._sign.timeout.emit()
    page._offer.timeout.emit()


def _fail(application: Application, failed: events.Failed, data: DataChoice = TICKETS) -> None:
    open_page(application, data=data)
    feed(application, end=failed)


def _unreadable(application: Application) -> None:
    root = application.runs.root
    root.mkdir(parents=True, exist_ok=True)
    lines = [
        f'{{"prompt": "Question number {n}, as it came in?", "completion": "Answer {n}."}}'
        for n in range(1, 30)
    ]
    lines[16] = '{"prompt": "What is the refund window?", "completion": "Thirty days from }'
    path = root / "support_tickets.jsonl"
    path.write_text("\n".join(lines))
    why = "this line is no valid JSON (it ends too early): 'ion\": \"Thirty days from }'"
    fix = "correct this line or take it out"
    failed = events.Failed(code="bad_data", where=f"{path}:17:71", why=why, fix=fix)
    _fail(application, failed, DataChoice(str(path), path.name))


def _no_rows(application: Application) -> None:
    fix = "choose a file with text and answers in it"
    failed = events.Failed(code="bad_data", where="tickets", why="every row is empty", fix=fix)
    _fail(application, failed)


def _no_template(application: Application) -> None:
    why = "this model has no chat template for conversations"
    fix = "use an instruct model, or rows of text or prompt + completion"
    _fail(application, events.Failed(code="no_template", where="row 1", why=why, fix=fix))


def _ready(application: Application) -> None:
    open_page(application)
    feed(application, report(), rows(), pieces(3), pieces(8, cut=True), end=DONE)


def _tokens(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.view.open_text(3)


def _tokens_cut(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.view.open_text(8)
    page.view.text.text.go_to(40)


def _tokens_none(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    application.inspection.missing[10] = "it is left out: it holds no text or no answer"
    page.view.open_text(10)


def _all_issues(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.view.issues._show_all()


def _again(application: Application) -> None:
    _ready(application)
    application.project.update(model=ModelChoice("demo", "Storybook", "bundled"))


def _few(application: Application) -> None:
    issues = [
        {"code": "few_rows", "split": "train", "count": 7, "rows": []},
        {"code": "few_validation", "split": "valid", "count": 1, "rows": []},
    ]
    open_page(application)
    changes = {
        "training_rows": 6, "validation_rows": 1, "rows_read": 7, "last_row": 7, "tokens": 1046,
        "mean_tokens": 149.4, "p95_tokens": 412, "issues": issues, "training_targets": 311,
        "formats": {"completion": 7}, "stamp": "train:1204:1",
        "histogram": {"edges": [*range(0, 426, 25)], "counts": [0, 3, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]},
    }  # fmt: skip
    feed(application, report(**changes), rows(7), end=DONE)


def _text(application: Application) -> None:
    made = [
        {"row": n, "values": {"text": text}, "tokens": tokens, "cut": 0, "left_out": ""}
        for n, (text, tokens) in enumerate(
            [("BERNARDO: \u21b5 Who\u2019s there? \u21b5 FRANCISCO: \u21b5 Nay, answer me: stand, and unfold yourself.", 451),
             ("MARCELLUS: \u21b5 Thou art a scholar; speak to it, Horatio.", 509),
             ("HORATIO: \u21b5 Most like: it harrows me with fear and wonder.", 409)] * 17, start=1)
    ]  # fmt: skip
    open_page(
        application, ModelChoice("demo", "Storybook"), DataChoice("demo", "Shakespeare sample")
    )
    counts = [0] * 14 + [1, 0, 2, 3, 1, 4, 5, 9, 7, 19]
    changes = {
        "formats": {"document": 1}, "prompt_style": "raw", "training_rows": 46, "columns": ["text"],
        "validation_rows": 5, "rows_read": 51, "last_row": 51, "tokens": 23_260, "issues": [],
        "mean_tokens": 456.1, "p95_tokens": 510, "training_targets": 20_803,
        "stamp": "train:67430:1", "histogram": {"edges": [*range(0, 481, 20), 520], "counts": counts},
    }  # fmt: skip
    preview = events.Report(kind="preview", data={"start": 0, "rows": made})
    feed(application, report(**changes), preview, end=DONE)


def _conversation(application: Application) -> None:
    made = [
        {"row": n, "values": {"system": "You are the porter.", "user": "Who knocks?", "assistant": "Knock, knock! Never at quiet.", "turns": "5"}, "tokens": 180 + n, "cut": 0, "left_out": ""}
        for n in range(1, 40)
    ]  # fmt: skip
    open_page(application, data=DataChoice("~/porter", "porter"))
    changes = {
        "formats": {"conversation": 39}, "columns": ["system", "user", "assistant", "turns"],
        "training_rows": 39, "validation_rows": 12, "rows_read": 51, "last_row": 39, "issues": [],
        "own_validation": True,
    }  # fmt: skip
    preview = events.Report(kind="preview", data={"start": 0, "rows": made})
    feed(application, report(**changes), preview, end=DONE)


def _paste(application: Application) -> None:
    page = open_page(application, data=None)
    QGuiApplication.clipboard().setText("HAMLET:\nTo be, or not to be, that is the question.\n")
    page.sources.paste()
    (sheet,) = page.window().findChildren(PasteSheet)
    sheet._where.setText("It will be kept as ~/Understudy/datasets/Pasted text.txt")


SCENES: dict[str, Callable[[Application], None]] = {
    "dataset-empty": _empty,
    "dataset-needs-model": _needs_model,
    "dataset-reading": _reading,
    "dataset-unreadable": _unreadable,
    "dataset-no-rows": _no_rows,
    "dataset-no-template": _no_template,
    "dataset-ready": _ready,
    "dataset-tokens": _tokens,
    "dataset-tokens-cut": _tokens_cut,
    "dataset-tokens-none": _tokens_none,
    "dataset-issues": _all_issues,
    "dataset-again": _again,
    "dataset-few": _few,
    "dataset-text": _text,
    "dataset-conversation": _conversation,
    "dataset-paste": _paste,
}
