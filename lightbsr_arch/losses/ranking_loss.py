"""MM-RealSR's losses for degrees of degradation. They need the order of images, but not their true degrees."""

from typing import Annotated

import torch
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn


@LOSS_REGISTRY.register()
class DegreeRankingLoss(nn.Module):
    """Margin ranking of degrees, and two anchors at the ends of their range (MM-RealSR, ECCV 2022).

    With D kinds of degradation, each D + 3 neighbours of the batch are versions of one image: a mild version; for each
    kind, a version that is worse in this kind only; the clean image, whose degrees are all 0; and the worst version,
    whose degrees are all 1.

    Args:
        loss_weight: weight of this loss in the sum.
        margin: smallest difference between the degrees of the worse and of the mild version.
        rank_weight: weight of the ranking. If it is too large, degrees saturate at 0 and 1.
        anchor_weight: weight of the anchors.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        margin: Annotated[float, Meta(ge=0, lt=1)] = 0.05,
        rank_weight: float = 0.01,
        anchor_weight: float = 1e-4,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.margin = margin
        self.rank_weight = rank_weight
        self.anchor_weight = anchor_weight

    def forward(self, degrees: torch.Tensor) -> torch.Tensor:
        """Compute the loss of degrees, N x D in [0, 1], in fp32.

        The ranking is the mean over images of max(0, mild - worse + margin), summed over the kinds. The loss of the
        anchors is the mean over images of the squared error, summed over the kinds and both anchors.
        """
        versions = by_version(degrees.float())
        mild, worse, clean, worst = versions[:, 0], versions[:, 1:-2], versions[:, -2], versions[:, -1]
        exceeded = mild - worse.diagonal(dim1=1, dim2=2)  # the degree that is worse in each version
        ranking = F.relu(exceeded + self.margin).mean(dim=0).sum()
        anchors = (clean.square() + (1 - worst).square()).mean(dim=0).sum()
        return self.loss_weight * (self.rank_weight * ranking + self.anchor_weight * anchors)


def with_exact_anchors(degrees: torch.Tensor) -> torch.Tensor:
    """Replace the anchors' degrees in N x D by exactly 0 and 1. The anchors are restored with these."""
    versions = by_version(degrees)
    ends = torch.tensor([0.0, 1.0]).to(degrees)[None, :, None].expand(len(versions), -1, degrees.shape[1])
    return torch.cat([versions[:, :-2], ends], dim=1).flatten(0, 1)


def by_version(degrees: torch.Tensor) -> torch.Tensor:
    """Return N x D as N/(D+3) x D+3 x D: images, versions, kinds.

    Raises:
        ValueError: N is not a multiple of D + 3.
    """
    number = degrees.shape[1] + 3
    if len(degrees) % number:
        raise ValueError(f"{len(degrees)} images are not {number} versions of each: {tuple(degrees.shape)}")
    out: torch.Tensor = degrees.unflatten(0, (-1, number))
    return out
