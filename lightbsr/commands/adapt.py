"""``lightbsr adapt``."""

import argparse
import sys
from pathlib import Path

from lightbsr.errors import UserError

HELP = "fine-tune weights to your own low-quality pictures"
DESCRIPTION = (
    "Fine-tune weights of scale 4 to low-quality pictures without ground truth. The command estimates the blur kernel "
    "of each picture, and tunes the network until its output, blurred and downsampled again, equals the picture. The "
    "result improves if the blur is unlike that of the weights' training. It becomes worse for pictures with noise or "
    "compression artefacts (docs/adapt.md). Use pictures of the same camera or scanner. A picture that fails is "
    "reported, and the others are used. Exit status: 0 done; 1 some pictures failed; 2 nothing was written."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="PHOTO", help="file, folder or glob")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="file for the weights, NAME.safetensors"
    )
    parser.add_argument("-m", "--model", default="kdsr_s_x4_iso", help="shipped name or file of weights (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="steps of four crops each (%(default)s)")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")


def run(args: argparse.Namespace) -> int:
    if args.output.suffix != ".safetensors":
        raise UserError(f"{args.output}: the file of the weights must be named .safetensors")
    if not args.output.parent.is_dir():
        raise UserError(f"{args.output}: no such folder: {args.output.parent}")
    if not 1 <= args.steps <= 100_000 or not 0 < args.lr < 1:
        raise UserError("--steps takes 1 to 100000, --lr a number between 0 and 1")

    from tqdm import tqdm

    from lightbsr_arch.adaptation.files import adapt_files
    from lightbsr_arch.data.picture_files import find_pictures
    from lightbsr_arch.plugins import load_plugins

    load_plugins()
    pictures = find_pictures(args.inputs)
    with tqdm(total=args.steps, desc="adapt", unit="step") as bar:
        done = adapt_files(
            pictures,
            args.model,
            args.output,
            steps=args.steps,
            lr=args.lr,
            device=args.device,
            step_done=bar.update,
            report=lambda line: bar.write(line, file=sys.stderr),
        )
    print(
        f"{args.output}: adapted to {done.number} of {len(pictures)} pictures; blur of sigma {done.wide:.1f} and "
        f"{done.narrow:.1f} pixels along its axes; reproduction error {done.before:.2f} -> {done.after:.2f} grey levels"
    )
    if done.is_isotropic:
        print(
            "lightbsr adapt: the blur is about the same along both axes, as in the training of the shipped weights. "
            "They may restore these pictures better than the adapted weights (docs/adapt.md)",
            file=sys.stderr,
        )
    return 1 if done.number < len(pictures) else 0
