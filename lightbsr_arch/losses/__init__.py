"""Losses that BasicSR lacks, registered in its ``LOSS_REGISTRY``."""

from lightbsr_arch.losses.distill_loss import KDSRDistillLoss

__all__ = ["KDSRDistillLoss"]
