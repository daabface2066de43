"""The perceptual loss with weights from a file: search for the file, its checksum, and the value of the loss."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from basicsr.losses import build_loss
from torch.nn.functional import l1_loss
from torchvision.models import vgg

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.vgg import patched_vgg
from lightbsr_arch.losses.vgg_weights import check_whole, find_weights_file, sha256

NAME = "vgg11-8a719046.pth"
LOSS = {"type": "PerceptualLoss", "vgg_type": "vgg11", "layer_weights": {"conv1_1": 0.1, "conv2_1": 1, "conv3_2": 1}}


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    with patched_vgg():
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make torch.hub's folder of checkpoints and the current folder empty folders."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "home/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def features(hub: Path) -> torch.nn.Module:
    """Return VGG11's convolutions with random weights, which are also in the file."""
    torch.manual_seed(0)
    features = vgg.make_layers(vgg.cfgs["A"])
    weights = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save({**weights, "classifier.0.bias": torch.zeros(4096)}, hub / NAME)
    return features


def test_the_loss_is_the_weighted_difference_of_features(features: torch.nn.Module) -> None:
    sr, gt = torch.rand(2, 2, 3, 32, 32)
    loss = build_loss(LOSS)
    perceptual, style = loss(sr, gt)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, y = ((images - mean.view(3, 1, 1)) / std.view(3, 1, 1) for images in (sr, gt))
    expected = torch.zeros(())
    for index, layer in enumerate(features):
        x, y = layer(x), layer(y)
        expected += {0: 0.1, 3: 1, 8: 1}.get(index, 0) * l1_loss(x, y)
    torch.testing.assert_close(perceptual, expected)
    assert expected > 0.1
    assert style is None
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in loss.parameters())


def test_the_current_folder_comes_first(hub: Path) -> None:
    (hub / NAME).touch()
    assert find_weights_file("vgg11") == hub / NAME
    nearer = Path("experiments/pretrained_models", NAME)
    nearer.parent.mkdir(parents=True)
    nearer.touch()
    assert find_weights_file("vgg11") == nearer


def test_nothing_is_downloaded(hub: Path) -> None:
    with pytest.raises(UserError) as error:
        build_loss({**LOSS, "vgg_type": "vgg19", "layer_weights": {"conv5_4": 1}})
    assert str(error.value) == (
        "no such file: vgg19-dcbb9e9d.pth, the weights of vgg19, neither in experiments/pretrained_models (in "
        f"{Path.cwd()}) nor in {hub}; get it (575 MB, its sha256 begins dcbb9e9d): "
        f"curl --create-dirs -fo {hub}/vgg19-dcbb9e9d.pth https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    )
    assert list(hub.iterdir()) == []


def test_a_whole_file_and_a_damaged_one(hub: Path) -> None:
    (hub / "weights").write_bytes(b"some weights")
    digits = sha256(hub / "weights")[:8]
    whole = (hub / "weights").rename(hub / f"vgg19-{digits}.pth")
    check_whole(whole, "vgg19")
    whole.write_bytes(b"some weight5")
    with pytest.raises(
        UserError, match=rf"damaged: its sha256 begins [0-9a-f]{{8}}, not {digits} as its name says; get it"
    ):
        check_whole(whole, "vgg19")


def test_weights_of_another_network(features: torch.nn.Module, hub: Path) -> None:
    (hub / NAME).rename(hub / "vgg13-19584684.pth")
    with pytest.raises(UserError, match=r"vgg13-19584684.pth: holds no weights of vgg13; get it"):
        build_loss({**LOSS, "vgg_type": "vgg13"})
    torch.save([1, 2], hub / NAME)
    with pytest.raises(UserError, match=r"vgg11-8a719046.pth: holds no weights of vgg11"):
        build_loss(LOSS)
