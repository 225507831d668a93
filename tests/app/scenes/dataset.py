"""The Dataset page: nothing yet, reading, every way it can fail, and what was read."""
# ruff: noqa: E501 (rows are easier to read on one line)

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from PySide6.QtGui import QGuiApplication

from app.jobs import Job
from app.models.cleaning import Cleaned
from app.project import DataChoice, ModelChoice
from app.widgets.clean_sheet import CleanSheet
from app.widgets.paste_sheet import PasteSheet
from mlx_lora import events
from mlx_lora.data.findings import CODES, words

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


def issue(
    code: str, count: int, rows: tuple[int, ...] = (), split: str = "train", **more: Any
) -> dict[str, Any]:
    """As the library says it."""
    return {
        "code": code,
        "split": split,
        "count": count,
        "rows": list(rows),
        **words(code, count, split, 512),
        **more,
    }


def report(**changes: Any) -> events.Report:
    """What the worker says of the tickets."""
    counts = [round(520 * math.exp(-(((at - 5) / 4.2) ** 2))) for at in range(22)]
    counts[-1] += 23
    facts = {
        "name": "support_tickets", "formats": {"completion": 4812}, "prompt_style": "chat",
        "training_rows": 4329, "validation_rows": 481, "training_targets": 402_118,
        "median_tokens": 241, "longest_tokens": 2318, "rows_read": 4812,
        "last_row": 4812, "tokens": 1_309_724, "trained_tokens": 446_798,
        "masked_tokens": 844_204, "cut_tokens": 18_722, "mean_tokens": 272.2, "p95_tokens": 498,
        "limit": 512, "own_validation": False, "columns": ["prompt", "completion"],
        "histogram": {"edges": [*range(0, 526, 25), 2318], "counts": counts}, "stamp": "train:6412800:1",
        "issues": [
            issue("empty", 2, (10, 96)), issue("cut", 23, (8, 9, 4711, *range(4720, 4740))),
            issue("bad_json", 2, (7, 4)), issue("email", 31, (2, 5)),
            issue("duplicate", 14, (512, 600)),
        ],
        "verdict": {
            "size": "good", "text": "4,329 rows teach a style or a task well.",
            "rank": 16, "rank_text": "Rank 16 holds as much as so many tokens say.",
        },
        "long_rows": {"count": 23, "choices": {
            "cut": {"rows": 4810, "trained_tokens": 446_798, "lost_tokens": 18_722, "ends_lost": 23},
            "keep-end": {"rows": 4810, "trained_tokens": 455_012, "lost_tokens": 18_722, "ends_lost": 0},
            "split": {"rows": 4847, "trained_tokens": 465_520, "lost_tokens": 0, "ends_lost": 0},
            "drop": {"rows": 4787, "trained_tokens": 431_204, "lost_tokens": 37_480, "ends_lost": 0},
        }},
        "padding": 0.07, "template": {"name": "model"}, "json_answers": {"parse": 58, "of": 60},
        "mapping": {"needed": False, "suggested": {"prompt": "prompt", "completion": "completion"}, "columns": [
            {"name": "prompt", "example": "Summarise this ticket"}, {"name": "completion", "example": "Pairing fails"},
        ]},
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


def _findings(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.view.open("findings")


def _figures(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.view.open("figures")


def _visit(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.findings.visit("cut:train")
    page.view.visits.on.click()


def _find(application: Application) -> None:
    _tokens_cut(application)
    page: Any = application.window.page
    page.view.text.finder.field.setText("plans")


def _filter(application: Application) -> None:
    _ready(application)
    page: Any = application.window.page
    page.view.filter.setText("order")


def broken_file(application: Application) -> DataChoice:
    """Tickets of which some lines are no JSON."""
    root = application.runs.root
    root.mkdir(parents=True, exist_ok=True)
    lines = [
        f'{{"prompt": "Question number {n}, as it came in?", "completion": "Answer {n}."}}'
        for n in range(1, 60)
    ]
    lines[16] = '{"prompt": "What is the refund window?", "completion": "Thirty days from }'
    lines[40] = lines[40][:-1]
    path = root / "support_tickets.jsonl"
    path.write_text("\n".join(lines))
    return DataChoice(str(path), path.name)


def _broken(application: Application) -> None:
    data = broken_file(application)
    why = "this line is no valid JSON (it ends too early): 'ion\": \"Thirty days from }'"
    places = [
        {"where": f"{data.source}:17:71", "why": why},
        {
            "where": f"{data.source}:41:69",
            "why": "this line is no valid JSON (a bracket is missing)",
        },
    ]
    open_page(application, data=data)
    found = [
        issue("broken", 2, (17, 41), places=places),
        issue("cut", 3, (8,)),
        issue("few_validation", 4, split="valid"),
    ]
    feed(application, report(issues=found, json_answers=None), rows(), end=DONE)
    page: Any = application.window.page
    page.view.open("findings")


def _refused(application: Application) -> None:
    _broken(application)
    page: Any = application.window.page
    page.view.open("rows")


def _many_findings(application: Application) -> None:
    open_page(application)
    found = [issue(code, at + 2, (3, 8)) for at, code in enumerate(CODES)]
    feed(application, report(issues=found), rows(), pieces(3), end=DONE)
    page: Any = application.window.page
    page.view.open("findings")


def _no_findings(application: Application) -> None:
    open_page(application)
    feed(
        application,
        report(issues=[], long_rows={"count": 0, "choices": {}}, cut_tokens=0),
        rows(),
        end=DONE,
    )
    page: Any = application.window.page
    page.view.open("findings")


def _no_long_rows(application: Application) -> None:
    _no_findings(application)
    page: Any = application.window.page
    page.view.open("figures")


def _checking(application: Application) -> None:
    open_page(
        application, data=DataChoice("~/Documents/support_log.jsonl.gz", "support_log.jsonl.gz")
    )
    feed(application, rows(200), pieces(3), events.Phase("checking", 412_000_000, 1_000_000_000))
    page: Any = application.window.page
    page._late.timeout.emit()


def _downloading(application: Application) -> None:
    page = open_page(application, data=DataChoice("openai/gsm8k", "openai/gsm8k"))
    feed(application, events.Phase("downloading", 12_400_000, 48_000_000))
    page._sign.timeout.emit()
    page._offer.timeout.emit()


FAQ = DataChoice("~/Documents/faq.csv", "faq.csv")


def unmapped(**changes: Any) -> events.Report:
    """A table whose columns have names of their own."""
    columns = [
        {"name": "nr", "example": "1"}, {"name": "customer_says", "example": "When do you open on Sundays?"},
        {"name": "we_say", "example": "We open at ten and close at four on Sundays."}, {"name": "topic", "example": "opening hours"},
    ]  # fmt: skip
    facts = {
        "formats": {"": 48}, "training_rows": 0, "validation_rows": 0, "rows_read": 48, "last_row": 48,
        "tokens": 0, "trained_tokens": 0, "masked_tokens": 0, "cut_tokens": 0, "mean_tokens": 0, "p95_tokens": 0,
        "training_targets": 0, "histogram": {"edges": [], "counts": []}, "stamp": "train:4019:1",
        "issues": [issue("unknown", 48, (1, 2, 3))], "json_answers": None, "long_rows": {"count": 0, "choices": {}}, "verdict": {},
        "mapping": {"needed": True, "columns": columns, "suggested": {"prompt": "customer_says", "completion": "we_say"}},
    }  # fmt: skip
    return report(**{**facts, **changes})


def faq_rows() -> events.Report:
    """Its first rows."""
    said = (("When do you open on Sundays?", "We open at ten and close at four on Sundays.", "opening hours"), ("Can I bring my dog?", "Dogs on a lead are welcome in the garden.", "house rules"), ("Do you take cards?", "Yes, all of them, from five euros on.", "paying"), ("Is there a menu for children?", "There is, and half portions of everything else.", "food"))  # fmt: skip
    made = [
        {"row": at + 1, "values": {"nr": f"{at + 1}", "customer_says": q, "we_say": a, "topic": t}, "tokens": 0, "cut": 0, "left_out": "unknown"}
        for at, (q, a, t) in enumerate(said * 12)
    ]  # fmt: skip
    return events.Report(kind="preview", data={"start": 0, "rows": made})


def refuse_columns(application: Application) -> None:
    """As the worker does where no row is understood."""
    columns = events.Report(kind="columns", data=unmapped().data["mapping"])
    fix = "say which column is which, or rename them"
    failed = events.Failed(
        code="bad_data",
        where="faq.csv row 1",
        why="it has nr, customer_says, we_say, topic: nothing says which is the question and which the answer",
        fix=fix,
    )
    feed(application, faq_rows(), columns, end=failed)


def _columns(application: Application) -> None:
    open_page(application, data=FAQ)
    refuse_columns(application)


def _columns_some(application: Application) -> None:
    open_page(application, data=FAQ)
    feed(
        application,
        faq_rows(),
        unmapped(
            training_rows=40,
            validation_rows=4,
            formats={"": 4, "completion": 44},
            issues=[issue("unknown", 4, (1, 2, 3, 4))],
        ),
        end=DONE,
    )


def _columns_later(application: Application) -> None:
    _columns(application)
    page: Any = application.window.page
    page.view.columns.close_button.click()


def _template(application: Application) -> None:
    open_page(application)
    verdict = {
        "size": "few",
        "text": "120 rows teach a style, and few facts.",
        "rank": 8,
        "rank_text": "Rank 8 is enough for so few.",
    }
    feed(
        application,
        report(
            template={"name": "alpaca"}, verdict=verdict, formats={"alpaca": 4800, "completion": 12}
        ),
        rows(),
        end=DONE,
    )


def _copy_used(application: Application) -> None:
    _broken(application)
    page: Any = application.window.page
    page.findings._use_copy(
        Cleaned("~/Understudy/datasets/support_tickets cleaned.jsonl", 57, {"broken": 2})
    )
    feed(application, report(issues=[], rows_read=57, last_row=57), rows(57), end=DONE)


def _clean(application: Application) -> None:
    _many_findings(application)
    page: Any = application.window.page
    page.findings.ask_to_clean()
    (sheet,) = page.window().findChildren(CleanSheet)
    sheet.place.setText("Written as ~/Understudy/datasets/support_tickets cleaned.jsonl")


def _cleaning(application: Application) -> None:
    application.inspection.cleaning.worker = SilentJob
    _clean(application)
    (sheet,) = application.window.findChildren(CleanSheet)
    sheet.write.click()
    application.inspection.cleaning._hear(events.Phase("checking", 40, 100))


def _hub(application: Application) -> None:
    page = open_page(application, data=None)
    page.sources.choose_hub()


def _hub_again(application: Application) -> None:
    page = open_page(application, data=DataChoice("openai/gsm8k", "openai/gsm8k"))
    page.sources.choose_hub("It has several subsets: main, socratic. Choose one.")


def _again(application: Application) -> None:
    _ready(application)
    application.project.update(model=ModelChoice("demo", "Storybook", "bundled"))


def _few(application: Application) -> None:
    issues = [
        issue("few_rows", 7),
        issue("few_validation", 1, split="valid"),
    ]
    open_page(application)
    changes = {
        "training_rows": 6, "validation_rows": 1, "rows_read": 7, "last_row": 7, "tokens": 1046,
        "mean_tokens": 149.4, "p95_tokens": 412, "issues": issues, "training_targets": 311,
        "formats": {"completion": 7}, "stamp": "train:1204:1", "json_answers": None, "long_rows": {"count": 0, "choices": {}},
        "verdict": {"size": "too_few", "text": "7 rows are learnt by heart, and little else.", "rank": 4, "rank_text": "Rank 4 is enough for so few."},
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
        "json_answers": None, "mapping": {"needed": False, "columns": [], "suggested": {}}, "long_rows": {"count": 0, "choices": {}}, "template": {"name": "none"},
        "verdict": {"size": "few", "text": "A short play teaches a voice, not a language.", "rank": 16, "rank_text": "Rank 16 is enough for it."},
        "cut_tokens": 0, "masked_tokens": 0, "trained_tokens": 23_260, "longest_tokens": 512, "stamp": "train:67430:1", "histogram": {"edges": [*range(0, 481, 20), 520], "counts": counts},
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
        "own_validation": True, "json_answers": None, "mapping": {"needed": False, "columns": [], "suggested": {}},
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
    "dataset-findings": _findings,
    "dataset-findings-many": _many_findings,
    "dataset-findings-none": _no_findings,
    "dataset-broken": _broken,
    "dataset-refused": _refused,
    "dataset-visit": _visit,
    "dataset-find": _find,
    "dataset-filter": _filter,
    "dataset-figures": _figures,
    "dataset-figures-short": _no_long_rows,
    "dataset-checking": _checking,
    "dataset-downloading": _downloading,
    "dataset-columns": _columns,
    "dataset-columns-some": _columns_some,
    "dataset-columns-later": _columns_later,
    "dataset-template": _template,
    "dataset-clean": _clean,
    "dataset-cleaning": _cleaning,
    "dataset-copy": _copy_used,
    "dataset-hub": _hub,
    "dataset-hub-again": _hub_again,
    "dataset-again": _again,
    "dataset-few": _few,
    "dataset-text": _text,
    "dataset-conversation": _conversation,
    "dataset-paste": _paste,
}
