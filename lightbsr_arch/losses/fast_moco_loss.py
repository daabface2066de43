"""CdCL's contrast between degradations, without a queue: parts of an image predict projections of whole images."""

from itertools import combinations
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn

PAIRS = tuple(combinations(range(4), 2))
"""The six pairs of an image's quarters."""


class ProjectedEncoder(Protocol):
    """An estimator with a projector and a predictor, which process the IDR as a vector in training."""

    projector: nn.Module
    predictor: nn.Module

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


@LOSS_REGISTRY.register()
class FastMoCoLoss(nn.Module):
    """InfoNCE between predictions from pairs of quarters and the projections of whole images.

    CdCL (IEEE TIP 2025) uses it after Fast-MoCo (ECCV 2022). ``num_patch`` images share a degradation and have
    different content because of the cyclic shift. For each ordered pair of different images, the predictions of the
    first are compared with the projection of the second. The negatives are the images of the other degradations at the
    second's position. The loss is the mean over these pairs, the pairs of quarters and the degradations.

    Args:
        loss_weight: weight of this loss in the sum.
        num_patch: number of images that share a degradation.
        temperature: temperature T of the softmax.
        momentum: EMA decay of the encoder that computes the targets, which the model maintains.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        num_patch: Annotated[int, Meta(ge=2)] = 4,
        temperature: Annotated[float, Meta(gt=0)] = 1.0,
        momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.99,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.num_patch = num_patch
        self.temperature = temperature
        self.momentum = momentum

    def predictions(self, encoder: ProjectedEncoder, lq: torch.Tensor) -> torch.Tensor:
        """Predict, from pairs of quarters, the projections of images with the same degradation.

        Images with the same degradation are normalised in different batches. Otherwise the contrast could recognise
        them by the statistics of batch normalisation.

        Args:
            encoder: the trained encoder.
            lq: N x 3 x H x W. Each ``num_patch`` neighbours share a degradation.

        Returns:
            The predictions, num_patch x 6 x N/num_patch x D.
        """
        return torch.stack([self._of_quarters(encoder, lq[i :: self.num_patch]) for i in range(self.num_patch)])

    @staticmethod
    def _of_quarters(encoder: ProjectedEncoder, lq: torch.Tensor) -> torch.Tensor:
        """Return the predictions, 6 x N x D, for images of different degradations."""
        vectors = encoder.estimate(torch.cat(quarters(lq)))[1]["idr"].chunk(4)
        pairs = torch.cat([(vectors[a] + vectors[b]) / 2 for a, b in PAIRS])
        predictions: torch.Tensor = encoder.predictor(encoder.projector(pairs))
        out: torch.Tensor = predictions.unflatten(0, (len(PAIRS), -1))
        return out

    @torch.no_grad()
    def targets(self, encoder: ProjectedEncoder, lq: torch.Tensor) -> torch.Tensor:
        """Return the projections of whole images, num_patch x N/num_patch x D.

        Args:
            encoder: the moving average of the trained encoder.
            lq: as in ``predictions``.
        """
        views = [lq[i :: self.num_patch] for i in range(self.num_patch)]
        return torch.stack([encoder.projector(encoder.estimate(view)[1]["idr"]) for view in views])

    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compute the loss of ``predictions`` and ``targets`` in fp32. The targets have no gradient."""
        with torch.autocast(predictions.device.type, enabled=False):
            p, z = (F.normalize(x.float(), dim=-1) for x in (predictions, targets.detach()))
            logits = torch.einsum("vqnd,wmd->vwqnm", p, z) / self.temperature
            losses = logits.logsumexp(dim=-1) - logits.diagonal(dim1=-2, dim2=-1)
            others = ~torch.eye(len(p), dtype=torch.bool, device=p.device)
            # A mask as an index would make the host wait for the device.
            count = losses.numel() * (len(p) - 1) / len(p)
            return self.loss_weight * losses.masked_fill(~others[:, :, None, None], 0).sum() / count


def quarters(images: torch.Tensor) -> list[torch.Tensor]:
    """Cut N x C x H x W into four of N x C x H/2 x W/2, by columns. An odd last row or column is left out."""
    rows, columns = (side // 2 for side in images.shape[-2:])
    return [images[..., top : top + rows, left : left + columns] for left in (0, columns) for top in (0, rows)]
