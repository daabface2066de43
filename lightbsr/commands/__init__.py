"""The command ``lightbsr``, which does everything except training.

Each command is a module of this package with ``HELP``, ``DESCRIPTION``, ``add_arguments(parser)`` and
``run(args) -> exit code``. Only ``run`` imports the library, so that parsing loads no PyTorch.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module

from lightbsr.commands.outcome import run_command

COMMANDS = ("bench", "convert", "curves", "data", "degrade", "export", "idr", "models", "options", "upscale")


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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"lightbsr.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run, label=f"lightbsr {name}")
    return parser
