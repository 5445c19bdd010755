"""``python -m workflows``: what a department starts."""

import argparse
import sys
from pathlib import Path

from workflows import demo


def main() -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m workflows", description="Flows around mrtai.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shown = commands.add_parser("demo", help="a simulated patient through the flow on an embedded server")
    shown.add_argument("--out", type=Path, default=Path("demo"), help="folder for study, case and server (default demo)")
    shown.set_defaults(command=lambda options: demo.run(options.out))
    options = parser.parse_args()
    status: int = options.command(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
