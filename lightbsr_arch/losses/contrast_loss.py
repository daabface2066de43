"""Contrast between degradations: embeddings of patches that share a degradation are pulled together, others apart."""

from typing import Annotated

import torch
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn


@LOSS_REGISTRY.register()
class MomentumContrastLoss(nn.Module):
    """InfoNCE between patches of one degradation, with the keys of earlier steps as negatives.

    LightBSR (ICCV 2025), section 3.2, after MoCo (CVPR 2020). Each ordered pair of two of the ``num_patch`` patches
    that share a degradation is a query and its positive key. The loss is the mean over pairs and degradations.

    Args:
        loss_weight: weight of this loss in the sum.
        num_patch: patches that share a degradation.
        temperature: T.
        queue_size: number of keys in the queue.
        momentum: EMA decay of the key encoder, which the model maintains.
        num_dim: length of the embeddings. The model fills in that of the estimator.
    """

    queue: torch.Tensor
    position: torch.Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        num_patch: Annotated[int, Meta(ge=2)] = 4,
        temperature: Annotated[float, Meta(gt=0)] = 0.07,
        queue_size: Annotated[int, Meta(ge=1, le=2**20)] = 8192,
        momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.999,
        num_dim: int = 128,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.num_patch = num_patch
        self.temperature = temperature
        self.momentum = momentum
        # Random directions, the same in every process.
        queue = torch.randn(num_dim, queue_size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("queue", F.normalize(queue, dim=0))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Compute the loss of embeddings N x D, of which each ``num_patch`` neighbours share a degradation.

        Keys get no gradient. The loss is computed in fp32, because the logits reach 1/T.
        """
        with torch.autocast(queries.device.type, enabled=False):
            q, k = (self._by_degradation(embeddings.float()) for embeddings in (queries, keys.detach()))
            positives = q @ k.mT / self.temperature  # G x P x P: query, key
            negatives = (q @ self.queue / self.temperature).logsumexp(dim=2, keepdim=True)
            losses = torch.logaddexp(positives, negatives) - positives
            others = ~torch.eye(self.num_patch, dtype=torch.bool, device=q.device)
            return self.loss_weight * losses[:, others].mean()

    def new_keys(self, keys: torch.Tensor) -> torch.Tensor:
        """Return the keys that enter the queue: the first of each degradation, N/num_patch x D, normalised."""
        return self._by_degradation(keys.float())[:, 0]

    @torch.no_grad()
    def enqueue(self, new_keys: torch.Tensor) -> None:
        """Replace the oldest keys of the queue by new ones, G x D."""
        size = self.queue.shape[1]
        new_keys = new_keys[-size:]
        places = (self.position + torch.arange(len(new_keys), device=self.position.device)) % size
        self.queue[:, places] = new_keys.T
        self.position.copy_((self.position + len(new_keys)) % size)

    def _by_degradation(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return N x D as G x P x D (degradations, patches), normalised."""
        return F.normalize(embeddings.view(-1, self.num_patch, embeddings.shape[1]), dim=2)
