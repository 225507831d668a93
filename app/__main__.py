"""`understudy`: the worker with `--worker`, else the command line."""

from __future__ import annotations

import sys


def main() -> int:
    """Become what the arguments ask for; returns the exit code."""
    if sys.argv[1:2] == ["--worker"]:
        from mlx_lora import worker

        return worker.main()
    from mlx_lora import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
