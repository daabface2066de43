"""Trains the kernel estimator of `lightbsr adapt`, and measures it on other photos.

    python benchmarks/fit_kernel_estimator.py datasets/photos/train.lmdb --test datasets/Set5 datasets/Set14

Crops are blurred by anisotropic Gaussian kernels with sigmas of 0.2 to 4, downsampled by 4, and get noise of up to 5
grey levels. The loss is the sum of the absolute differences between the estimated kernel and the true one.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import lightbsr_arch
from lightbsr import shipped
from lightbsr_arch.adaptation.kernel_estimator import FILE, KERNEL_SIZE, SCALE, KernelEstimator, sigmas
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource, open_pictures
from lightbsr_arch.degradations import ClassicalDegradation, Draws

START = "kdsr_s_x4_iso"
"""Weights whose estimator is the start. It knows isotropic blur."""
CROP = 192
BATCH = 8
SIGMA = (0.2, 4.0)
NOISE = (0.0, 5.0)
LR = 5e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder or LMDB of photos to train on")
    parser.add_argument("--test", nargs="+", default=[], metavar="DIR", help="other photos, to measure the errors")
    parser.add_argument("--steps", type=int, default=3000, help="training steps (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, default=shipped.folder() / FILE, help="file (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = fit(open_pictures(args.photos), args.steps)
    model.save(args.output)
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")
    model = KernelEstimator.load(args.output)  # measured as it is shipped
    for folder in args.test:
        print(f"{folder}: " + ", ".join(f"{name} {error:.3f}" for name, error in errors(model, folder).items()))


def fit(photos: GTSource, steps: int) -> KernelEstimator:
    """Return the trained estimator. Shows a progress bar with the mean loss of the last hundred steps."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    degradation = ClassicalDegradation(SCALE, "aniso", SIGMA, NOISE, KERNEL_SIZE)
    model = KernelEstimator()
    trained = {key.removeprefix("estimator."): value for key, value in lightbsr_arch.load(START).state_dict().items()}
    model.load_state_dict({key: trained[key] for key in model.state_dict() if "to_idr" not in key}, strict=False)
    optimizer = torch.optim.Adam(model.parameters(), LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.05)
    losses = []
    with tqdm(range(steps), unit="step") as bar:
        for _ in bar:
            degraded = degradation(torch.stack([_crop(photos, rng) for _ in range(BATCH)]), Draws(generator))
            assert degraded.parameters is not None
            loss = kernel_error(model(degraded.lq), degraded.parameters.kernel)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses[-100:]):.3f}")
    return model.eval()


def _crop(photos: GTSource, rng: np.random.Generator) -> torch.Tensor:
    index = int(rng.integers(len(photos)))
    top, left = (int(rng.integers(length - CROP + 1)) for length in photos.shape(index))
    crop = to_tensor(photos.read_crops(index, [(top, left)], CROP)[0])
    return crop.rot90(int(rng.integers(4)), (1, 2))


def kernel_error(kernels: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """Return the mean sum of absolute differences: 0 for equal kernels, 2 for kernels that do not overlap."""
    return (kernels.flatten(1) - actual.flatten(1)).abs().sum(dim=1).mean()


def errors(model: KernelEstimator, folder: str) -> dict[str, float]:
    """Measure the estimator on whole pictures with eight random degradations each.

    Returns:
        Mean error of the kernels, that of a kernel which is the mean of all, and mean error of the wider sigma in
        pixels.
    """
    photos = open_pictures(folder)
    generator = torch.Generator().manual_seed(1)
    degradation = ClassicalDegradation(SCALE, "aniso", SIGMA, NOISE, KERNEL_SIZE)
    found, actual = [], []
    for index in range(len(photos)):
        gt = to_tensor(photos.read(index))[None]
        height, width = (length - length % SCALE for length in gt.shape[2:])
        for _ in range(8):
            degraded = degradation(gt[..., :height, :width], Draws(generator))
            assert degraded.parameters is not None
            found.append(model.kernel(degraded.lq))
            actual.append(degraded.parameters.kernel[0])
    kernels, truth = torch.stack(found), torch.stack(actual)
    return {
        "kernel error": kernel_error(kernels, truth).item(),
        "of the mean kernel": kernel_error(truth.mean(dim=0, keepdim=True).expand_as(truth), truth).item(),
        "sigma error": (sigmas(kernels) - sigmas(truth))[:, 1].abs().mean().item(),
    }


if __name__ == "__main__":
    main()
