"""The discriminator on frozen features of EfficientNet-Lite0."""

from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.base_model import BaseModel
from torch.nn import functional as F

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra efficientnet")


@pytest.fixture
def noise() -> torch.Tensor:
    """Fine texture, 6 x 3 x 48 x 48."""
    return torch.rand(6, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def smooth(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def test_it_learns_in_few_steps_to_tell_texture_from_smooth_images(noise: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = build_network({"type": "EfficientNetDiscriminator", "num_feat": 16}).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.softplus(-net(noise)).mean() + F.softplus(net(smooth(noise))).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    other = torch.rand(2, 3, 64, 40, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        real, fake = net(other).mean((0, 2, 3)), net(smooth(other)).mean((0, 2, 3))
    assert (real > fake).all(), "all five heads"


def test_its_features_are_neither_trained_nor_saved(noise: torch.Tensor) -> None:
    net = build_network({"type": "EfficientNetDiscriminator", "num_feat": 16, "num_stages": 2})
    assert not any(name.startswith("features") for name in (*net.state_dict(), *dict(net.named_parameters())))
    before = {name: value.clone() for name, value in net.features.named_buffers()}
    images = noise.requires_grad_()
    net.train()(images).mean().backward()
    assert images.grad is not None
    assert images.grad.abs().amax() > 0, "the generator gets a gradient through the features"
    assert all(torch.equal(value, before[name]) for name, value in net.features.named_buffers())


def test_basicsr_saves_and_loads_it(tmp_path: Path) -> None:
    model = BaseModel({"num_gpu": 0, "dist": False, "is_train": True, "path": {"models": tmp_path}})
    net, other = (build_network({"type": "EfficientNetDiscriminator", "num_feat": 8}) for _ in range(2))
    model.save_network(net, "net_d", 1)
    model.load_network(other, tmp_path / "net_d_1.pth", strict=True, param_key="params")
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in other.state_dict().items())


def test_all_heads_have_a_logit_at_each_place(noise: torch.Tensor) -> None:
    net = build_network({"type": "EfficientNetDiscriminator", "num_feat": 16, "num_stages": 3})
    verdict = net(noise)
    assert verdict.shape == (6, 4, 12, 12)
    coarse = verdict[:, 2]  # of stride 8: 6 x 6 places of the enlarged half
    assert torch.equal(coarse, coarse[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_pattern_of_two_pixels_changes_the_logits_of_all_heads() -> None:
    grey = torch.full((1, 3, 64, 64), 0.5)
    pattern = grey.clone()
    pattern[..., ::2, ::2] += 0.02
    pattern[..., 1::2, 1::2] += 0.02
    net = build_network({"type": "EfficientNetDiscriminator", "num_feat": 16, "num_stages": 1}).eval()
    with torch.inference_mode():
        difference = (net(pattern) - net(grey)).abs().mean((0, 2, 3))
    assert (difference > 1e-3).all()
