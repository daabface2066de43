"""``lightbsr``: what users do with trained networks.

A package beside ``lightbsr_arch``, whose import loads PyTorch and BasicSR: here nothing is imported before a command
needs it, so that ``lightbsr --help`` and ``lightbsr models`` answer at once.

A command is a module of this package with ``HELP``, ``DESCRIPTION``, ``add_arguments(parser)`` and
``run(args) -> exit code``; ``run`` imports what it needs.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from lightbsr_cli.errors import UserError

COMMANDS = ("bench", "convert", "degrade", "export", "idr", "models", "upscale")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all was done; 1 when some of it failed, as reported; 2 when the user has something to mend (one line on
        stderr); 130 when stopped by Ctrl-C.
    """
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names of files need not be UTF-8
    try:
        code: int = args.run(args)
    except UserError as error:
        print(f"lightbsr {args.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a name that is too long, a full disk: what no command expects where it happens
        print(f"lightbsr {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lightbsr {args.command}: stopped", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightbsr", description="Blind super-resolution with KDSR and LightBSR.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"lightbsr_cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
