"""What makes a student's knowledge of the degradation agree with its teacher's."""

import torch
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from torch import nn

Knowledge = dict[str, torch.Tensor]


@LOSS_REGISTRY.register()
class KDSRDistillLoss(nn.Module):
    """KL divergence of the softened distilled vectors: KL(softmax(teacher / T) || softmax(student / T)).

    KDSR (ICLR 2023), equation 5; the mean over the batch, without the T^2 of Hinton's distillation.

    Args:
        loss_weight: of this loss in the sum.
        temperature: T.
    """

    def __init__(self, loss_weight: float = 1.0, temperature: float = 0.15) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.temperature = temperature

    def forward(self, student: Knowledge, teacher: Knowledge) -> torch.Tensor:
        """Takes the knowledge by name, ``{"idr": N x D}``, in any dtype; computes in fp32."""
        log_student = F.log_softmax(student["idr"].float() / self.temperature, dim=1)
        log_teacher = F.log_softmax(teacher["idr"].float() / self.temperature, dim=1)
        return self.loss_weight * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
