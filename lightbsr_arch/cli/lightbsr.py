"""``lightbsr``: what users do with trained networks."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightbsr_arch.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 when it did its work, 2 when the user has something to mend (one line on stderr)."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except UserError as error:
        print(f"lightbsr {args.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightbsr", description="Blind super-resolution with KDSR and LightBSR.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = commands.add_parser(
        "convert",
        help="turn a checkpoint into .safetensors",
        description="Turn a BasicSR .pth of a BlindSR network, or a checkpoint published by the authors of KDSR or "
        "LightBSR, into .safetensors with the network's configuration inside. Sizes are read off the weights.",
    )
    convert.add_argument("src", type=Path, metavar="SRC", help="the checkpoint")
    convert.add_argument("dst", type=Path, metavar="DST", help="the file to write, NAME.safetensors")
    convert.set_defaults(run=_convert)
    return parser


def _convert(args: argparse.Namespace) -> None:
    from lightbsr_arch.checkpoint import convert

    checkpoint = convert(args.src, args.dst)
    parts = [
        f"{part['type']}({', '.join(f'{key}={value}' for key, value in part.items() if key != 'type')})"
        for part in checkpoint.network.values()
    ]
    size = sum(tensor.numel() for tensor in checkpoint.state.values())
    print(f"{args.dst}: {' + '.join(parts)}, {size:,} parameters")


if __name__ == "__main__":
    sys.exit(main())
