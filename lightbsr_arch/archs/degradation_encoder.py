"""The convolutional encoder by which DASR, LightBSR, CdCL and MRDA estimate the degradation of an image.

DASR (CVPR 2021) introduced it with batch normalisation. LightBSR and CdCL use its output as a map. MRDA has no batch
normalisation.
"""

import torch
from torch import nn

from lightbsr_arch.archs.estimator_init import Init, he_init_, remove_mean_
from lightbsr_arch.archs.fast.row_streams import Mean, Strips, cut, streamed
from lightbsr_arch.archs.idr import MAP_STRIDE
from lightbsr_arch.archs.part import Advance, Arguments, Estimator, State

CONTRAST_NAMES = ((r"E\.(encoder_k\.|queue$|queue_ptr$)", None),)
"""Published tensors of the contrast with a queue, which only training needs."""

SLOPE = 0.1  # of every LeakyReLU
HALO = 12  # rows that a row of the features depends on are at most 11 away; a multiple of MAP_STRIDE


def six_convolutions(num_in_ch: int, num_feat: int, batch_norm: bool = True) -> nn.Sequential:
    """Build six 3x3 convolutions, each with a LeakyReLU, of which the third and the fifth halve the sides.

    They turn N x num_in_ch x H x W into N x 4*num_feat x H/4 x W/4, rounded up.

    Args:
        num_in_ch: channels of the input.
        num_feat: channels of the first two convolutions. The next two have twice as many, the last two four times.
        batch_norm: whether batch normalisation follows each convolution.
    """
    wide, widest = 2 * num_feat, 4 * num_feat
    layers: list[nn.Module] = []
    for before, after, stride in (
        (num_in_ch, num_feat, 1),
        (num_feat, num_feat, 1),
        (num_feat, wide, 2),
        (wide, wide, 1),
        (wide, widest, 2),
        (widest, widest, 1),
    ):
        layers.append(nn.Conv2d(before, after, 3, stride, 1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


def two_linear_layers(num_ch: int) -> nn.Sequential:
    """Build two linear layers of equal width with a LeakyReLU between them."""
    return nn.Sequential(nn.Linear(num_ch, num_ch), nn.LeakyReLU(SLOPE), nn.Linear(num_ch, num_ch))


def map_in_strips(features: nn.Sequential, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
    """Return the output of ``six_convolutions`` for one image, of which about ``rows`` rows are processed at a time."""
    return torch.cat([part for part, _ in _in_strips(features, lq, rows, advance)], dim=2)


def mean_in_strips(features: nn.Sequential, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
    """Return the mean over the pixels of the same output, 1 x C, without the whole map."""
    mean = Mean()
    for part, _ in _in_strips(features, lq, rows, advance):
        mean.add(part)
    return mean.value


def _in_strips(features: nn.Sequential, lq: torch.Tensor, rows: int, advance: Advance) -> Strips:
    rows = -(-rows // MAP_STRIDE) * MAP_STRIDE
    for part, last in streamed(features, cut(lq, rows), halo=HALO, stride=MAP_STRIDE):
        yield part, last
        advance(part.shape[2] / -(-lq.shape[2] // MAP_STRIDE))


class DegradationEncoder(Estimator):
    """Base class of estimators with ``six_convolutions``. Those of students read only the low-quality image."""

    def __init__(self, num_in_ch: int, num_feat: int, batch_norm: bool) -> None:
        super().__init__()
        self.features = six_convolutions(num_in_ch, num_feat, batch_norm)
        self.batch_norm = batch_norm
        self.idr_ch = 4 * num_feat

    def start(self, init: Init) -> None:
        """Initialise the weights after all layers are created. "pytorch" leaves them unchanged."""
        if init == "detail":
            if not self.batch_norm:  # batch normalisation keeps the scale
                he_init_(self, SLOPE)
            remove_mean_(self.features[0])

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, channels = state["features.0.weight"].shape[:2]
        return {"num_feat": num_feat} if channels == 3 else None  # a teacher's encoder has more inputs
