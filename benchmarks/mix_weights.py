"""A milder network from a training with a GAN: the mean of its checkpoints, mixed with the network it started from.

    python benchmarks/mix_weights.py options/weights/kdsr_s_x4_texture.yml [--after 2000] [--share 0.6]

The mean over checkpoints is stochastic weight averaging (Izmailov et al., UAI 2018). The mixture is network
interpolation (ESRGAN, ECCV 2018 Workshops): ``share`` of the mean, and the rest of ``path.pretrain_network_g``. The
result is experiments/NAME/models/net_g_mixed.pth, which ``ship_weights.py pack`` prefers to the last checkpoint.
"""

import argparse
import sys
from pathlib import Path

import torch
from checkpoints import write_checkpoint

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.checkpoint import load, read_checkpoint
from lightbsr_arch.config.merge import read_options

MIXED = "net_g_mixed.pth"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", type=Path, help="options file of the training")
    parser.add_argument("--after", type=int, default=2000, help="iteration of the first checkpoint (%(default)s)")
    parser.add_argument("--share", type=float, default=0.6, help="share of the trained network, 0 to 1 (%(default)s)")
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        raise UserError(f"--share {args.share}: expected 0 to 1")
    options = read_options(args.options).data
    models = Path("experiments", options["name"], "models")
    number = {file: file.stem.rpartition("_")[2] for file in models.glob("net_g_*.pth")}
    files = [file for file, text in number.items() if text.isdecimal() and int(text) >= args.after]
    if not files:
        raise UserError(f"{models}: no checkpoint of iteration {args.after} or later; train {args.options} first")
    start = load(options["path"]["pretrain_network_g"]).state_dict()
    state = mixed(start, [read_checkpoint(file).state for file in files], args.share)
    write_checkpoint(models / MIXED, state)
    print(f"{models / MIXED}: mean of {len(files)} checkpoints, share {args.share:g}")
    return 0


def mixed(
    start: dict[str, torch.Tensor], checkpoints: list[dict[str, torch.Tensor]], share: float
) -> dict[str, torch.Tensor]:
    """Return ``share`` of the mean of the checkpoints, plus the rest of ``start``."""
    return {
        name: torch.lerp(value.float(), torch.stack([state[name].float() for state in checkpoints]).mean(0), share)
        for name, value in start.items()
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"mix_weights: {reason_of(error)}")
