"""Networks in several processes."""

from collections.abc import Iterator

import pytest
import torch
from basicsr.models.base_model import BaseModel
from torch import distributed, nn

from lightbsr_arch.basicsr_patches.devices import DeviceMethods


class PatchedModel(DeviceMethods, BaseModel):
    """BasicSR's model with the patched method."""


@pytest.fixture
def process_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_distributed_training_needs_no_gpu(process_group: None) -> None:
    net = PatchedModel({"num_gpu": 0, "is_train": True, "dist": True}).model_to_device(nn.Linear(2, 3))
    assert isinstance(net, nn.parallel.DistributedDataParallel)
    assert net(torch.zeros(1, 2)).shape == (1, 3)


def test_one_process_has_the_plain_network() -> None:
    net = nn.Linear(2, 3)
    assert PatchedModel({"num_gpu": 0, "is_train": True, "dist": False}).model_to_device(net) is net
