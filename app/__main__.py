"""`understudy`: the window; the worker with `--worker`; with anything else the command line."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Become what the arguments ask for; returns the exit code."""
    if sys.argv[1:2] == ["--worker"]:
        from mlx_lora import worker

        return worker.main()
    if not sys.argv[1:]:
        return _open_window()
    # until a job takes Ctrl-C and SIGTERM over, there is nothing to save: leave at once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from mlx_lora import cli

        return cli.main(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


def _open_window() -> int:
    """The app; one line where it cannot be shown, as for every other refusal."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    why = ""
    if sys.platform == "linux" and not any(os.environ.get(name) for name in screens):
        why = "there is no screen here"
    else:
        try:
            from app.application import run
        except ImportError as error:
            if error.name and error.name.partition(".")[0] not in {"PySide6", "shiboken6"}:
                raise
            why = f"a library the window needs is missing ({error})"
    if why:
        fix = "use the commands, see understudy --help"
        sys.stderr.write(f"error[no_screen] understudy: {why}. Fix: {fix}\n")
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
