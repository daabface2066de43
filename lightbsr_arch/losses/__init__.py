"""Losses that BasicSR lacks, registered in its ``LOSS_REGISTRY``."""

from lightbsr_arch.losses.contrast_loss import MomentumContrastLoss
from lightbsr_arch.losses.distill_loss import DistillLoss, KDSRDistillLoss, LightBSRDistillLoss

__all__ = ["DistillLoss", "KDSRDistillLoss", "LightBSRDistillLoss", "MomentumContrastLoss"]
