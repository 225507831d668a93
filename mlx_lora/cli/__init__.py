"""The command line. Exit codes: 0 done, 2 an error with words, 130 stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import click
import typer

from mlx_lora import __version__
from mlx_lora.cli import asking, housekeeping, learning
from mlx_lora.cli.running import InterruptedJobError
from mlx_lora.errors import UserError
from mlx_lora.runs import RunStore, default_root

app = typer.Typer(
    name="understudy",
    help="Teach a small language model a new part on your own machine. Nothing leaves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
learning.register(app)
asking.register(app)
housekeeping.register(app)


@app.callback()
def _root(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="where runs are kept [UNDERSTUDY_HOME, or the user's data folder]"
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    context.obj = RunStore(data_dir.expanduser().absolute() if data_dir else default_root())
    if version:
        sys.stdout.write(f"understudy {__version__}\n")
        raise typer.Exit


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code of the contract."""
    try:
        code = app(args=arguments, prog_name="understudy", standalone_mode=False)
    except UserError as error:
        sys.stderr.write(error.line() + "\n")
        return 1 if error.code == "internal" else 2
    except click.ClickException as error:
        sys.stderr.write(_usage_line(error) + "\n")
        return 2
    except (InterruptedJobError, KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return 0
    return code if isinstance(code, int) else 0


def _usage_line(error: click.ClickException) -> str:
    """Typer's own refusals in the contract's form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "understudy"
    message = " ".join(error.format_message().split())
    return UserError("bad_option", command, message, f"see {command} --help").line()
