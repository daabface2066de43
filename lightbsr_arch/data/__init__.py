"""Datasets that BasicSR lacks, registered in its ``DATASET_REGISTRY``."""

from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.data.gt_dataset import GTDataset
from lightbsr_arch.data.pair_dataset import PairDataset

__all__ = ["DegradedDataset", "GTDataset", "PairDataset"]
