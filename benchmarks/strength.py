"""PSNR-Y and sharpness of pictures that are restored with a weaker or stronger IDR (``--strength``).

    python benchmarks/strength.py --model NAME_OR_PATH ... --images datasets/Set14 [--sigma 1.8 2.6] [--crop 192]

The restorer receives idr = clean + S * (own - clean) for several S. `own` is the IDR of the low-quality picture, and
`clean` is the mean IDR of synthetic pictures (discs of random sizes and colours) that are shrunk bicubically, without
blur or noise. Sharpness is the energy of the differences between neighbouring pixels of Y, relative to the ground
truth. `--sigma` sets isotropic blurs. Without it, each picture has a random draw of Real-ESRGAN's degradation. The last
column is the share of pictures whose sharpness rises with every step of S.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.bench.metrics import METRICS
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.settings import SecondOrderSetting, Setting
from lightbsr_arch.inference.strength import clean_idr
from lightbsr_arch.inference.upscaler import load_student

# isort: split
from basicsr.utils import tensor2img

STRENGTHS = (0.0, 0.5, 1.0, 1.25, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="shipped weights or files")
    parser.add_argument("--images", type=Path, required=True, help="folder of ground-truth pictures")
    parser.add_argument("--sigma", nargs="+", type=float, default=[], help="blur widths; default: second-order")
    parser.add_argument("--crop", type=int, default=0, help="side of the middle square that is used; 0: the whole")
    args = parser.parse_args()
    settings: list[Setting | SecondOrderSetting] = [Setting(sigma=sigma) for sigma in args.sigma]
    settings = settings or [SecondOrderSetting()]
    print(f"{'model, degradation':36}" + "".join(f"  S = {s:<11g}" for s in STRENGTHS) + "  rises")
    for name in args.model:
        model = load_student(name, "cpu")
        assert isinstance(model, BlindSR), f"{name} has no estimator of its own"
        gts = [ground_truth(path, args.crop, model.scale) for path in sorted(args.images.iterdir())]
        for setting in settings:
            print_row(model, setting, gts, f"{name[-20:]}, {setting.name}")


@torch.inference_mode()
def print_row(model: BlindSR, setting: Setting | SecondOrderSetting, gts: list[torch.Tensor], label: str) -> None:
    clean = clean_idr(model)
    figures = np.empty((len(gts), len(STRENGTHS), 2))
    for i, gt in enumerate(gts):
        lq = setting.degrade(gt, model.scale, "bicubic", Draws(torch.Generator().manual_seed(i))).lq
        read = model.estimator(lq)
        origin = clean if read.dim() == 2 else clean[:, :, None, None]
        for j, strength in enumerate(STRENGTHS):
            idr = origin + strength * (read - origin)
            sr = tensor2img(model.restorer(lq, model.restorer.guides(idr, *lq.shape[2:])))
            hr = tensor2img(gt)
            psnr = METRICS["psnr_y"].compute(sr, hr, model.scale)
            figures[i, j] = psnr, sharpness(sr) / sharpness(hr)
    rises = (figures[:, 1:, 1] > figures[:, :-1, 1]).all(axis=1).mean()
    cells = "".join(f"  {psnr:6.2f} dB {sharp:.3f}" for psnr, sharp in figures.mean(axis=0))
    print(f"{label:36}{cells}  {rises:4.0%}", flush=True)


def ground_truth(path: Path, crop: int, scale: int) -> torch.Tensor:
    """Return the middle of a picture, 1 x 3 x H x W in [0, 1], with sides that the scale divides."""
    image = read_image(path)
    height, width = (min(crop or side, side) // scale * scale for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return to_tensor(image[top : top + height, left : left + width])[None]


def sharpness(picture: np.ndarray) -> float:
    """Return the mean squared difference between neighbouring pixels of Y, on the 0-255 scale."""
    y = picture @ np.array([24.966, 128.553, 65.481]) / 255
    return float(np.square(np.diff(y, axis=0)).mean() + np.square(np.diff(y, axis=1)).mean())


if __name__ == "__main__":
    main()
