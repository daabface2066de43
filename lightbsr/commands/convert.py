"""``lightbsr convert``."""

import argparse
import sys
from pathlib import Path

HELP = "turn a checkpoint into .safetensors"
DESCRIPTION = (
    "Turn a BasicSR .pth of a BlindSR network, or a checkpoint published by the authors of KDSR or LightBSR, into "
    ".safetensors with the network's configuration. Sizes are derived from the weights."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", type=Path, metavar="SRC", help="the checkpoint")
    parser.add_argument("dst", type=Path, metavar="DST", help="the file to write, NAME.safetensors")
    parser.add_argument(
        "--pca",
        type=Path,
        metavar="FILE",
        help="a published LightBSR teacher's PCA of blur kernels: .mat, or .safetensors or .pth with the key pca",
    )


def run(args: argparse.Namespace) -> int:
    from lightbsr_arch.checkpoint import convert
    from lightbsr_arch.plugins import load_plugins

    load_plugins()
    checkpoint = convert(args.src, args.dst, args.pca)
    parts = [
        f"{part['type']}({', '.join(f'{key}={value}' for key, value in part.items() if key != 'type')})"
        for part in checkpoint.sections
    ]
    size = sum(tensor.numel() for tensor in checkpoint.state.values())
    print(f"{args.dst}: {' + '.join(parts)}, {size:,} parameters")
    if missing := checkpoint.build().missing():
        print(f"lightbsr convert: {args.src} {missing}", file=sys.stderr)
    return 0
