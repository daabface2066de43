"""Systems that are defined only in this file are converted, loaded, upscaled with and trained as those of the package.

The toy contrast also trains with a model of the package, to whose options it adds its own.
"""

from functools import partial
from typing import Annotated

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY
from msgspec import Meta
from safetensors import safe_open
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle

import lightbsr_arch
from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.fast.row_streams import Mean, cut, streamed
from lightbsr_arch.archs.part import Estimator, Network, Restorer, count
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.objectives.base import OBJECTIVE_REGISTRY, EstimatorTrainOptions
from lightbsr_arch.objectives.contrast import Contrast
from lightbsr_arch.option_types import Loss
from tests.config.conftest import problems, write
from tests.config.test_cross_checks import HR_ONLY
from tests.models.helpers import build, options, train


class ToyEstimator(Estimator):
    """An estimator whose IDR is the mean of the features of one convolution."""

    published_names = ((r"meter\.conv\.", "conv."), (r"meter\.steps$", None))

    def __init__(self, num_feat: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_feat, 3, padding=1)
        self.idr_ch = num_feat

    knows = ("idr",)

    def estimate(self, lq, extra=None):
        idr = self.conv(lq).mean(dim=(2, 3))
        return idr, {"idr": idr}

    @classmethod
    def from_state(cls, state):
        return {"num_feat": state["conv.weight"].shape[0]}

    def estimate_in_strips(self, lq, rows, advance):
        mean = Mean()
        for strip, _ in streamed(self.conv, cut(lq, rows), halo=1):
            mean.add(strip)
            advance(strip.shape[2] / lq.shape[2])
        return mean.value


class ToyRestorer(Restorer):
    """A restorer of convolutions, whose features are multiplied by the IDR, and a pixel shuffle."""

    system = "Toy"
    published_names = ((r"net\.layers\.(\d+)\.", r"body.\1."), (r"net\.out\.", "tail."))
    knows = ("factor",)

    def __init__(self, num_feat: int = 4, num_block: int = 2, scale: int = 2) -> None:
        super().__init__()
        widths = [3, *[num_feat] * num_block]
        self.body = nn.ModuleList(nn.Conv2d(before, num_feat, 3, padding=1) for before in widths[:-1])
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)
        self.scale, self.num_feat, self.idr_ch = scale, num_feat, num_feat

    def guides(self, idr, height, width):
        return {"factor": idr[:, :, None, None]}

    def forward(self, lq, guides):
        for layer in self.body:
            lq = guides["factor"] * layer(lq)
        return pixel_shuffle(self.tail(lq), self.scale)

    @classmethod
    def from_state(cls, state):
        channels, num_feat = state["tail.weight"].shape[:2]
        blocks = count(state, r"body\.\d+\.weight")
        return {"num_feat": num_feat, "num_block": blocks, "scale": round((channels / 3) ** 0.5)}

    def restore_in_strips(self, lq, guides, rows, advance):
        strips = cut(lq, rows)
        for layer in self.body:
            strips = streamed(lambda x, layer=layer: guides["factor"] * layer(x), strips, halo=1)
        shuffled = partial(pixel_shuffle, upscale_factor=self.scale)
        for strip, last in streamed(lambda x: shuffled(self.tail(x)), strips, halo=1, scale=self.scale):
            yield strip, last
            advance(strip.shape[2] / self.scale / lq.shape[2])


class ToyWithKernel(ToyEstimator):
    """An estimator with an extra input that a user can supply."""

    extra_input = "kernel"

    def estimate(self, lq, extra=None):
        return self.conv(lq).mean(dim=(2, 3)) * extra.sum(), {}

    @classmethod
    def from_state(cls, state):
        return None


class ToyIterative(Network):
    """A network without estimator and restorer, which corrects its image step by step."""

    published_names = ((r"corrector\.", "conv."),)

    def __init__(self, scale: int = 2, num_feat: int = 4, num_block: int = 1) -> None:
        super().__init__()
        self.config = {"scale": scale, "num_feat": num_feat, "num_block": num_block}
        self.scale, self.num_feat = scale, num_feat
        self.up = nn.Parameter(torch.rand(scale))
        self.conv = nn.ModuleList(nn.Conv2d(3, num_feat, 3, padding=1) for _ in range(num_block))

    @classmethod
    def from_state(cls, state):
        blocks = count(state, r"conv\.\d+\.weight")
        return {"scale": len(state["up"]), "num_feat": len(state["conv.0.bias"]), "num_block": blocks}

    def forward(self, lq):
        sr = interpolate(lq, scale_factor=self.scale)
        for step in self.conv:
            sr = sr + 0.1 * self.up.mean() * step(sr).mean(dim=1, keepdim=True)
        return sr


class ToyContrastLoss(nn.Module):
    """The distance of IDRs from those of the moving average."""

    def __init__(self, loss_weight: float = 1.0, num_patch: Annotated[int, Meta(ge=2)] = 2, momentum: float = 0.9):
        super().__init__()
        self.loss_weight, self.num_patch, self.momentum = loss_weight, num_patch, momentum

    def forward(self, ours, averaged):
        return self.loss_weight * (ours - averaged - 1).square().mean()


class ToyContrast(Contrast):
    """Compares the IDRs with those of the moving average."""

    option = "toy_opt"
    knowledge = ("idr",)
    needs = "a convolution"
    saved_as = ("toy", "toy_average")

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        toy_opt: Annotated[Loss | None, Meta(description="contrast of the toy")] = None

    @classmethod
    def fits(cls, estimator):
        return isinstance(estimator, ToyEstimator) or estimator is ToyEstimator

    def losses(self, known):
        return {"l_toy": self.cri_contrast(known["idr"], self.net_key.estimate(self.model.lq)[1]["idr"])}


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch):
    """As after the import of a plug-in whose classes are decorated; the registries are put back."""
    for cls in (ToyEstimator, ToyRestorer, ToyWithKernel, ToyIterative):
        monkeypatch.setitem(ARCH_REGISTRY._obj_map, cls.__name__, cls)
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "ToyContrastLoss", ToyContrastLoss)
    monkeypatch.setitem(OBJECTIVE_REGISTRY._obj_map, "ToyContrast", ToyContrast)
    torch.manual_seed(0)


NETWORK = {
    "estimator": {"type": "ToyEstimator", "num_feat": 6},
    "restorer": {"type": "ToyRestorer", "num_feat": 6, "num_block": 3, "scale": 3},
}


def toy() -> BlindSR:
    return BlindSR(**NETWORK).eval()


def published(net: BlindSR) -> dict[str, torch.Tensor]:
    """Return the tensors of the toy under published names."""
    names = (("estimator.", "meter."), ("restorer.body.", "net.layers."), ("restorer.tail.", "net.out."))
    state = {}
    for key, value in net.state_dict().items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        state[key] = value
    return {**state, "meter.steps": torch.zeros(1)}


def test_published_weights_are_converted_and_loaded(tmp_path, capsys):
    net = toy()
    torch.save({"params": published(net)}, tmp_path / "published.pth")
    assert main(["convert", str(tmp_path / "published.pth"), str(tmp_path / "net.safetensors")]) == 0
    assert "ToyEstimator(num_feat=6) + ToyRestorer(num_feat=6, num_block=3, scale=3)" in capsys.readouterr().out
    lq = torch.rand(2, 3, 9, 8)
    for name in ("net.safetensors", "published.pth"):
        loaded = load(tmp_path / name)
        assert loaded.config == NETWORK
        assert torch.equal(loaded(lq), net(lq))


def test_strips_equal_the_whole():
    net, lq = toy(), torch.rand(3, 37, 11)
    with torch.inference_mode():
        whole = net(lq[None])[0].clamp(0, 1)
    for rows in (1, 5, 64):
        shares: list[float] = []
        sr = lightbsr_arch.upscale(lq, net, tile=rows, advance=shares.append)
        torch.testing.assert_close(sr, whole, atol=1e-6, rtol=0)
        assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["parts", "iterative"])
def test_a_picture_is_upscaled_by_the_command(kind, tmp_path):
    net = toy() if kind == "parts" else ToyIterative(scale=3).eval()
    Checkpoint(net.state_dict(), net.config, type=type(net).__name__).save(tmp_path / "net.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    command = ["upscale", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, "-m", str(tmp_path / "net.safetensors"), "--tile", "4"]) == 0
    (result,) = (tmp_path / "out").iterdir()
    lq = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        wanted = (net(lq)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()[..., ::-1]
    assert np.abs(cv2.imread(str(result)).astype(int) - wanted).max() <= 1


def test_a_network_without_parts_is_read_off_its_tensors(tmp_path):
    net = ToyIterative(scale=3, num_feat=5, num_block=2).eval()
    state = {key.replace("conv.", "corrector."): value for key, value in net.state_dict().items()}
    torch.save(state, tmp_path / "published.pth")
    loaded = load(tmp_path / "published.pth")
    assert (type(loaded), loaded.config) == (ToyIterative, net.config)
    Checkpoint(net.state_dict(), net.config, type="ToyIterative").save(tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert file.metadata()["type"] == "ToyIterative"
    assert type(load(tmp_path / "net.safetensors")) is ToyIterative


def test_an_input_of_the_users_makes_no_teacher(tmp_path):
    net = BlindSR({"type": "ToyWithKernel", "num_feat": 6}, NETWORK["restorer"]).eval()
    assert (net.extra_input, net.is_teacher, net.privileged) == ("kernel", False, None)
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    lq, kernel = torch.rand(1, 3, 6, 6), torch.rand(5, 5)
    assert torch.equal(load(tmp_path / "net.safetensors")(lq, kernel), net(lq, kernel))
    with pytest.raises(UserError, match=r"net\.safetensors: this network also needs the kernel, which cannot be given"):
        lightbsr_arch.upscale(lq, tmp_path / "net.safetensors")


def test_networks_of_no_plug_in_are_refused(tmp_path, monkeypatch):
    net = ToyIterative().eval()
    Checkpoint(net.state_dict(), net.config, type="ToyIterative").save(tmp_path / "net.safetensors")
    monkeypatch.delitem(ARCH_REGISTRY._obj_map, "ToyIterative")
    with pytest.raises(UserError, match=r"the type of its network is ToyIterative, expected BlindSR"):
        load(tmp_path / "net.safetensors")


TOY_RUN = (
    HR_ONLY.replace("BlindSRModel", "ContrastiveSRModel")
    .replace("\npath:", "\ndegradation: {type: ClassicalDegradation}\npath:")
    .replace("  pixel_opt", "  toy_opt: {type: ToyContrastLoss}\n  estimator_iter: 1\n  pixel_opt")
)


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ("{type: ToyContrastLoss}", None),
        ("{type: ToyContrast}", "train.toy_opt.type: unknown-type"),
        ("{type: ToyContrastLoss, num_patch: 1}", "train.toy_opt.num_patch: invalid-value"),
    ],
)
def test_a_contrast_adds_its_options_to_those_of_the_contrastive_model(wrong, refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.yml", TOY_RUN.replace("{type: ToyContrastLoss}", wrong))
    found = [line.partition(": ")[2] for line in problems("a.yml")]
    assert found == ([] if refusal is None else [refusal])


def test_a_contrast_trains_and_resumes(tmp_path):
    network = {"type": "BlindSR", **NETWORK, "restorer": {**NETWORK["restorer"], "scale": 2}}
    opt = options(tmp_path, "ContrastiveSRModel", network, toy_opt={"type": "ToyContrastLoss"}, estimator_iter=1)
    model = build(opt)
    assert [set(log) for log in train(model, 1, 2)] == [{"l_toy"}, {"l_pix", "l_toy"}]
    assert model.output.shape == (2, 3, 32, 32)
    average = model.objectives["toy_opt"].net_key.conv.weight
    assert 0 < (average - model.net_g.estimator.conv.weight).abs().max() < 1e-2
    state = {**model.more_training_state(), "toy_average": {"conv.weight": average + 1, "conv.bias": torch.ones(6)}}
    model.objectives["toy_opt"].load_state(state)
    torch.testing.assert_close(model.objectives["toy_opt"].net_key.conv.bias, torch.ones(6))
    for wrong in ({}, {"toy_average": 3}, {"toy_average": {"conv.weight": 3, "conv.bias": torch.ones(6)}}):
        with pytest.raises(UserError, match=r"no average of this estimator.* train\.toy_opt must be that of the run"):
            model.objectives["toy_opt"].load_state(wrong)


def test_a_contrast_names_the_estimators_that_it_can_train(tmp_path):
    network = {"type": "BlindSR", **NETWORK, "restorer": {**NETWORK["restorer"], "scale": 2}}
    with pytest.raises(UserError, match=r"^train\.cyclic_opt needs an estimator with a projector.*: CdCLEncoder$"):
        build(options(tmp_path, "ContrastiveSRModel", network, cyclic_opt={"type": "FastMoCoLoss"}))
