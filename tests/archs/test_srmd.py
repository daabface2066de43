"""SRMD compared with its published size and with a plain reference."""

import pytest
import torch
from torch.nn import functional as F

from lightbsr_arch.archs import BlindSR, KnownDegradation, SRMDNet
from lightbsr_arch.archs.part import in_our_names
from lightbsr_arch.degradations import gaussian_kernels


@pytest.mark.parametrize(("idr_ch", "scale", "millions"), [(16, 4, 1.553), (15, 4, 1.552), (16, 2, 1.512)])
def test_published_sizes(idr_ch, scale, millions):
    with torch.device("meta"):
        model = BlindSR(
            {"type": "KnownDegradation", "num_noise_ch": idr_ch - 15},
            {"type": "SRMDNet", "idr_ch": idr_ch, "scale": scale},
        )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


def test_the_network_sees_the_degradation_at_every_pixel():
    torch.manual_seed(0)
    net = SRMDNet(num_feat=8, num_block=3, idr_ch=4, scale=2)
    lq, idr = torch.rand(2, 3, 6, 5), torch.randn(2, 4)
    x = torch.cat([lq, torch.ones(2, 4, 6, 5) * idr.view(2, 4, 1, 1)], dim=1)
    for conv in net.layers[0:3:2]:
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))
    wanted = F.pixel_shuffle(net.layers[4](x), 2)
    torch.testing.assert_close(net(lq, net.guides(idr, 6, 5)), wanted)


def test_the_known_degradation_is_the_idr():
    estimator = KnownDegradation(num_kernel_ch=3, num_noise_ch=2)
    sigmas = torch.linspace(0.5, 3, 50)
    kernels = gaussian_kernels(sigmas, sigmas.flip(0), torch.zeros(50))
    lq = torch.zeros(50, 3, 1, 1)
    with pytest.raises(ValueError, match="not fitted"):
        estimator(lq, (kernels, torch.zeros(50)))
    estimator.prior.fit(kernels)
    idr = estimator(lq, (kernels, torch.full((50,), 12.5)))
    assert idr.shape == (50, 5)
    torch.testing.assert_close(idr[:, 3:], torch.full((50, 2), 0.5))
    torch.testing.assert_close(idr[:, :3].mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(idr[:, 0].std(correction=0), torch.tensor(1.0))
    assert torch.equal(estimator(lq, idr), idr)
    with pytest.raises(ValueError, match=r"needs its extra input, the degradation"):
        estimator(lq)


def test_published_names():
    net = SRMDNet(num_feat=8, num_block=3, idr_ch=15, scale=3)
    theirs = {key.replace("layers.", "model."): value for key, value in net.state_dict().items()}
    assert sorted(theirs)[0] == "model.0.bias"
    state = in_our_names(theirs, SRMDNet)
    assert state.keys() == net.state_dict().keys()
    assert SRMDNet.from_state(state) == {"num_feat": 8, "num_block": 3, "idr_ch": 15, "scale": 3}


def test_a_network_of_one_convolution_is_refused():
    with pytest.raises(ValueError, match="num_block must be 2 or more, not 1"):
        SRMDNet(num_block=1)
