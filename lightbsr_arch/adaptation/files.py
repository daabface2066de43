"""Adaptation to picture files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lightbsr.errors import UserError, one_line, reason_of
from lightbsr.shipped import find_weights
from lightbsr_arch.adaptation.adapt import SMALLEST, adapt
from lightbsr_arch.adaptation.kernel_estimator import SCALE, KernelEstimator, sigmas
from lightbsr_arch.archs.part import needs_lq_only
from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.data.picture_files import PictureFile
from lightbsr_arch.device import find_device

ISOTROPIC = 1.5
"""Largest ratio of the widths of a blur along its axes that counts as isotropic."""


@dataclass(frozen=True)
class AdaptedFiles:
    """Outcome of an adaptation to files.

    Attributes:
        number: number of pictures that were used.
        before: mean reproduction error at the start, in grey levels.
        after: mean reproduction error at the end.
        narrow: mean sigma of the pictures' blur along its narrower axis, in pixels of the SR image.
        wide: mean sigma along its wider axis.
    """

    number: int
    before: float
    after: float
    narrow: float
    wide: float

    @property
    def is_isotropic(self) -> bool:
        """True if the blur is about equal along both axes, as in the training of the shipped weights."""
        return self.wide < ISOTROPIC * self.narrow


def adapt_files(
    pictures: Sequence[PictureFile],
    name_or_path: str | Path,
    out: Path,
    *,
    steps: int = 60,
    lr: float = 1e-4,
    device: str | torch.device = "auto",
    step_done: Callable[[], object] = lambda: None,
    report: Callable[[str], None] = lambda line: None,
) -> AdaptedFiles:
    """Tune weights to picture files, and write them with their card.

    Args:
        pictures: from `find_pictures`.
        name_or_path: shipped name or file of the weights.
        out: the file to write, ``.safetensors``.
        steps, lr: see `adapt`.
        device: device for the computation.
        step_done: called after each step.
        report: receives one line for each picture that cannot be used.

    Raises:
        UserError: the weights cannot be adapted, or no picture can be used. ``out`` is then not written.
    """
    device = find_device(device)
    checkpoint = read_checkpoint(find_weights(name_or_path))
    model = checkpoint.build().to(device)
    needs_lq_only(model, name_or_path)
    if model.scale != SCALE:
        raise UserError(f"{name_or_path}: weights of scale {model.scale}; only those of scale {SCALE} can be adapted")
    images = []
    for picture in pictures:
        try:
            images.append(_read(picture).to(device))
        except Exception as error:  # any error of one picture must not stop the others
            report(one_line(f"{picture.path}: {reason_of(error, picture.path)}"))
    if not images:
        raise UserError(f"{pictures[0].path}: no picture can be used")
    estimator = KernelEstimator.load().to(device)
    done = adapt(model, images, estimator, steps=steps, lr=lr, step_done=step_done)
    checkpoint.state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    card = {key: value for key, value in checkpoint.card.items() if key != "psnr_y"}  # figures of the old weights
    checkpoint.card = {**card, "adapted": {"from": str(name_or_path), "pictures": len(images), "steps": steps}}
    checkpoint.save(out)
    narrow, wide = sigmas(torch.stack(done.kernels)).mean(dim=0).tolist()
    return AdaptedFiles(len(images), done.before, done.after, narrow, wide)


def _read(picture: PictureFile) -> torch.Tensor:
    if picture.problem:
        raise UserError(picture.problem)
    image = to_tensor(read_image(picture.path))
    if min(image.shape[1:]) < SMALLEST:
        raise UserError(f"{image.shape[2]} x {image.shape[1]} pixels; expected sides of at least {SMALLEST}")
    return image
