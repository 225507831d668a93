"""The command line. Exit codes: 0 done, 2 an error with words, 130 stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_lora import __version__, machine
from mlx_lora.cli import asking, benching, datasets, demo, exporting, housekeeping, learning, models
from mlx_lora.cli.running import InterruptedJobError
from mlx_lora.errors import UserError
from mlx_lora.runs import RunStore, default_root
from mlx_lora.storage import expanded, explain

app = typer.Typer(
    name="understudy",
    help="Teach a small language model a new part on your own machine. Nothing leaves it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
learning.register(app)
asking.register(app)
exporting.register(app)
demo.register(app)
housekeeping.register(app)
datasets.register(app)
models.register(app)
benching.register(app)
# older typers use click, newer ones a copy of their own: this is the base of either's refusals
_Refusal: type[Exception] = typer.BadParameter.__bases__[0]


def _say_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"understudy {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="where runs are kept [UNDERSTUDY_HOME, or the user's data folder]"
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="print the version", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    machine.check_system(machine.this_system())
    context.obj = RunStore(expanded(data_dir).absolute() if data_dir else default_root())


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code of the contract."""
    try:
        code = app(args=arguments or ["--help"], prog_name="understudy", standalone_mode=False)
    except UserError as error:
        sys.stderr.write(error.line() + "\n")
        return 1 if error.code == "internal" else 2
    except _Refusal as error:
        sys.stderr.write(_usage_line(error) + "\n")
        return 2
    except (InterruptedJobError, KeyboardInterrupt, typer.Abort):
        return 130
    except (BrokenPipeError, SystemExit):
        # whoever read our output has gone; typer turns that into an exit of its own
        return 0
    except OSError as error:
        sys.stderr.write(explain(error, Path(error.filename or "understudy")).line() + "\n")
        return 2
    return code if isinstance(code, int) else 0


def _usage_line(error: Any) -> str:
    """Typer's own refusals in the contract's form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "understudy"
    message = " ".join(error.format_message().split())
    return UserError("bad_option", command, message, f"see {command} --help").line()
