"""The command ``lightbsr``, which does everything except training.

Each command is a module of this package with ``HELP``, ``DESCRIPTION``, ``add_arguments(parser)`` and
``run(args) -> exit code``. Only ``run`` imports the library, so that parsing loads no PyTorch.
"""

import argparse
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module, metadata
from typing import Any

from lightbsr.commands.outcome import run_command

COMMANDS = (
    "adapt",
    "bench",
    "convert",
    "curves",
    "data",
    "degrade",
    "export",
    "idr",
    "inspect",
    "models",
    "options",
    "upscale",
    "web",
)


SHOWN_VERSIONS = ("lightbsr-arch", "torch", "torchvision", "basicsr", "animesisr-basicsr", "numpy", "opencv-python")
"""Distributions whose versions ``lightbsr --version`` prints, if they are installed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success; 1 if a part failed and was reported; 2 after an error that the user can correct, which is one line
        on stderr; 130 after Ctrl-C.
    """
    args = _parser().parse_args(argv)
    return run_command(args.run, args, args.label)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightbsr", description="Blind super-resolution with KDSR and LightBSR.")
    parser.add_argument(
        "--version", action=_Versions, nargs=0, help="print the versions of this package and of those below it"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"lightbsr.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run, label=f"lightbsr {name}")
    return parser


class _Versions(argparse.Action):
    """Prints the versions that a report of a bug needs, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        for name in SHOWN_VERSIONS:
            with suppress(metadata.PackageNotFoundError):
                print(f"{name} {metadata.version(name)}")
        print(f"Python {platform.python_version()}, {platform.platform()}")
        parser.exit()
