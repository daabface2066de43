"""An estimator as a plug-in: it computes the IDR from the strength of an image's details."""

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from lightbsr_arch.archs.part import Arguments, Estimator, State

DISTANCES = (1, 2, 3, 4)  # between the pixels that are compared
FLOOR = 1e-6  # energy of a flat image, whose logarithm would be infinite


@ARCH_REGISTRY.register()
class DetailEstimator(Estimator):
    """Computes the IDR, a vector, from the energy of differences between pixels.

    Blur weakens the differences between close pixels, and noise strengthens them. Like a ``KDIDEStudent``, it can be
    distilled from a ``KDIDETeacher`` with the same number of channels.

    Args:
        num_feat: channels C; the IDR has C numbers, the distilled vector 4C.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x C).
    """

    knows = ("idr",)

    def __init__(self, num_feat: int = 32) -> None:
        super().__init__()
        wide = 4 * num_feat
        self.mlp = nn.Sequential(nn.Linear(2 * len(DISTANCES), wide), nn.LeakyReLU(0.1), nn.Linear(wide, wide))
        self.to_idr = nn.Sequential(nn.Linear(wide, num_feat), nn.LeakyReLU(0.1))
        self.idr_ch = num_feat

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x C, and the vector that a student distils: ``{"idr": N x 4C}``."""
        energies = [log_energy(lq, axis, distance) for axis in (2, 3) for distance in DISTANCES]
        distilled = self.mlp(torch.stack(energies, dim=1))
        return self.to_idr(distilled), {"idr": distilled}

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        if state["mlp.0.weight"].shape[1] != 2 * len(DISTANCES):
            return None
        return {"num_feat": state["to_idr.0.weight"].shape[0]}


def log_energy(images: torch.Tensor, axis: int, distance: int) -> torch.Tensor:
    """Return the logarithm of the mean squared difference of pixels at a distance along an axis, N."""
    distance = min(distance, images.shape[axis] - 1)
    length = images.shape[axis] - distance
    difference = images.narrow(axis, distance, length) - images.narrow(axis, 0, length)
    return (difference.square().mean(dim=(1, 2, 3)) + FLOOR).log()
