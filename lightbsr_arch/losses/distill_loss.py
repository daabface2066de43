"""Distillation losses, which compare a student's knowledge of the degradation with its teacher's."""

from typing import Annotated

import torch
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn

Knowledge = dict[str, torch.Tensor]


class DistillLoss(nn.Module):
    """Base class of losses that compare named tensors of two networks, in fp32.

    Attributes:
        compares: names of the tensors that both networks must return.
    """

    compares: tuple[str, ...]

    def __init__(self, loss_weight: float) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def distance(self, student: Knowledge, teacher: Knowledge) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, student: Knowledge, teacher: Knowledge) -> torch.Tensor:
        student, teacher = ({name: known[name].float() for name in self.compares} for known in (student, teacher))
        return self.loss_weight * self.distance(student, teacher)


@LOSS_REGISTRY.register()
class KDSRDistillLoss(DistillLoss):
    """KL divergence of the softened distilled vectors: KL(softmax(teacher / T) || softmax(student / T)).

    It is equation 5 of KDSR (ICLR 2023). The loss is the mean over the batch, without the T^2 of Hinton's distillation.
    An L1 distance of the vectors can be added, or can replace the KL divergence. If a constant is added to all numbers
    of a vector, the L1 distance changes, but the KL divergence does not.

    Args:
        loss_weight: weight of this loss in the sum.
        temperature: temperature T of the softmax.
        kl_weight: weight of the KL divergence.
        l1_weight: weight of the L1 distance.
    """

    compares = ("idr",)

    def __init__(
        self,
        loss_weight: float = 1.0,
        temperature: Annotated[float, Meta(gt=0)] = 0.15,
        kl_weight: float = 1.0,
        l1_weight: float = 0.0,
    ) -> None:
        super().__init__(loss_weight)
        self.temperature = temperature
        self.kl_weight = kl_weight
        self.l1_weight = l1_weight

    def distance(self, student: Knowledge, teacher: Knowledge) -> torch.Tensor:
        """Compare ``idr``, N x D."""
        ours, theirs = student["idr"], teacher["idr"]
        kl = softened_kl(ours, theirs, self.temperature)
        return self.kl_weight * kl + self.l1_weight * F.l1_loss(ours, theirs)


@LOSS_REGISTRY.register()
class LightBSRDistillLoss(DistillLoss):
    """KL divergence and L1 distance of the channel guides, and mean squared error of the spatial guides.

    It is the loss of LightBSR (ICCV 2025), section 3.4. The KL divergence is that of KDSR. The guides are the initial
    ones of the restorer, before its groups refine them.

    Args:
        loss_weight: weight of this loss in the sum.
        temperature: temperature T of the KL divergence.
        kl_weight: weight of the KL divergence of the channel guides.
        l1_weight: weight of the L1 distance of the channel guides.
        spatial_weight: weight of the mean squared error of the spatial guides.
    """

    compares = ("channel_guide", "spatial_guide")

    def __init__(
        self,
        loss_weight: float = 1.0,
        temperature: Annotated[float, Meta(gt=0)] = 0.15,
        kl_weight: float = 1.0,
        l1_weight: float = 0.1,
        spatial_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        self.temperature = temperature
        self.kl_weight = kl_weight
        self.l1_weight = l1_weight
        self.spatial_weight = spatial_weight

    def distance(self, student: Knowledge, teacher: Knowledge) -> torch.Tensor:
        """Compare ``channel_guide``, N x D, and ``spatial_guide``, N x C x H x W."""
        ours, theirs = student["channel_guide"], teacher["channel_guide"]
        kl = softened_kl(ours, theirs, self.temperature)
        channel = self.kl_weight * kl + self.l1_weight * F.l1_loss(ours, theirs)
        return channel + self.spatial_weight * F.mse_loss(student["spatial_guide"], teacher["spatial_guide"])


def softened_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) of vectors N x D, as the mean over the batch."""
    log_student, log_teacher = (F.log_softmax(vectors / temperature, dim=1) for vectors in (student, teacher))
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
