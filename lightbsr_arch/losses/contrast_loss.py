"""Contrast between degradations. Embeddings of patches with the same degradation attract, all others repel."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn


@LOSS_REGISTRY.register()
class MomentumContrastLoss(nn.Module):
    """InfoNCE between patches of one degradation, with the keys of earlier steps as negatives.

    LightBSR (ICCV 2025), section 3.2, and DASR (CVPR 2021), section 3.1, use it after MoCo (CVPR 2020). Each ordered
    pair of different patches with the same degradation is a query and its positive key. The loss is the mean over pairs
    and degradations. One key per degradation enters the queue.

    Args:
        loss_weight: weight of this loss in the sum.
        num_patch: number of patches that share a degradation.
        temperature: temperature T of the softmax.
        queue_size: number of keys in the queue.
        momentum: EMA decay of the encoder that computes the keys, which the model maintains.
        num_dim: length of the embeddings; by default that of the estimator.
        queries: "every" if each patch is a query and the first patch's key enters the queue, as in LightBSR's code;
            "first" if only the first patch is a query and the second patch's key enters the queue, as in DASR's code.
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
        queries: Literal["every", "first"] = "every",
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.num_patch = num_patch
        self.temperature = temperature
        self.momentum = momentum
        self.queries = queries
        # The initial keys are random directions, the same in every process.
        queue = torch.randn(num_dim, queue_size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("queue", F.normalize(queue, dim=0))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Compute the loss in fp32, because the logits reach 1/T. The keys have no gradient.

        Args:
            queries: embeddings, N x D. Each ``num_patch`` neighbours share a degradation.
            keys: embeddings of the same patches by the momentum encoder, N x D.
        """
        with torch.autocast(queries.device.type, enabled=False):
            q, k = (self._by_degradation(embeddings.float()) for embeddings in (queries, keys.detach()))
            others = ~torch.eye(self.num_patch, dtype=torch.bool, device=q.device)
            if self.queries == "first":
                q, others = q[:, :1], others[:1]
            positives = q @ k.mT / self.temperature  # degradation x query x key
            negatives = (q @ self.queue / self.temperature).logsumexp(dim=2, keepdim=True)
            losses = torch.logaddexp(positives, negatives) - positives
            # A mask as an index would make the host wait for the device.
            count = losses.numel() - losses.shape[0] * losses.shape[1]
            return self.loss_weight * losses.masked_fill(~others, 0).sum() / count

    def new_keys(self, keys: torch.Tensor) -> torch.Tensor:
        """Return the rows of ``keys``, N x D, that enter the queue, as N/num_patch x D, normalised."""
        return self._by_degradation(keys.float())[:, 1 if self.queries == "first" else 0]

    @torch.no_grad()
    def enqueue(self, new_keys: torch.Tensor) -> None:
        """Replace the oldest keys by ``new_keys``, N/num_patch x D."""
        size = self.queue.shape[1]
        new_keys = new_keys[-size:]
        places = (self.position + torch.arange(len(new_keys), device=self.position.device)) % size
        self.queue[:, places] = new_keys.T
        self.position.copy_((self.position + len(new_keys)) % size)

    def _by_degradation(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return embeddings N x D as N/num_patch x num_patch x D, normalised."""
        return F.normalize(embeddings.unflatten(0, (-1, self.num_patch)), dim=2)
