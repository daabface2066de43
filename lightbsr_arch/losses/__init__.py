"""Losses that BasicSR lacks, registered in its ``LOSS_REGISTRY``."""

from lightbsr_arch.losses.contrast_loss import MomentumContrastLoss
from lightbsr_arch.losses.distill_loss import DistillLoss, KDSRDistillLoss, LightBSRDistillLoss
from lightbsr_arch.losses.efficientnet_loss import EfficientNetLoss
from lightbsr_arch.losses.fast_moco_loss import FastMoCoLoss
from lightbsr_arch.losses.ranking_loss import DegreeRankingLoss

__all__ = [
    "DegreeRankingLoss",
    "DistillLoss",
    "EfficientNetLoss",
    "FastMoCoLoss",
    "KDSRDistillLoss",
    "LightBSRDistillLoss",
    "MomentumContrastLoss",
]
