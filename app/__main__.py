"""`understudy`: the window; the worker with `--worker`; with anything else the command line."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Become what the arguments ask for; returns the exit code."""
    if sys.argv[1:2] == ["--worker"]:
        from mlx_lora import worker

        return worker.main()
    if not sys.argv[1:]:
        from app.application import run

        return run()
    # until a job takes Ctrl-C and SIGTERM over, there is nothing to save: leave at once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from mlx_lora import cli

        return cli.main(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
