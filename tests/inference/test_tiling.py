"""Strips return the same result as the whole image."""

import pytest
import torch

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.fast import memory
from lightbsr_arch.archs.fast.row_streams import added, cut, not_taller, streamed, write
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Restorer
from lightbsr_arch.inference.tiling import sr_strips
from tests.inference.networks import PAIRS, network


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def in_strips(model: BlindSR, lq: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat(list(sr_strips(model, lq, rows)), dim=2)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_strips_equal_the_whole(pair, scale):
    model = network(pair, scale)
    # From the height on, all rows are one strip. tests/inference/test_random_strips.py has more sizes.
    for height, width, strips in ((1, 1, (1,)), (7, 5, (1, 3, 4, 17)), (50, 21, (3, 4, 17, 48, 64))):
        lq = torch.rand(1, 3, height, width)
        whole = model(lq)
        for rows in strips:
            torch.testing.assert_close(in_strips(model, lq, rows), whole, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_idr_is_that_of_the_whole_image(pair):
    """Return an image that is flat above and noisy below. The IDR of a single strip would be very different."""
    model = network(pair)
    lq = torch.cat([torch.ones(1, 3, 32, 20), torch.rand(1, 3, 32, 20)], dim=2)
    whole, above = (as_vector(model.estimator(part)) for part in (lq, lq[:, :, :32]))
    streamed_idr = as_vector(model.estimator.estimate_in_strips(lq, 8, lambda share: None))
    assert (streamed_idr - whole).norm() < 1e-3 * (above - whole).norm()


def test_features_may_be_in_a_file(monkeypatch):
    """Simulate that the features do not fit into memory."""
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    model, lq = network("lightbsr"), torch.rand(1, 3, 30, 17)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 0.05)):
        model, lq = model.to(dtype), lq.to(dtype)
        maps = memory.feature_maps(2, 16, lq)
        assert maps.shape == (2, 16, 30, 17)
        assert maps.dtype == dtype
        torch.testing.assert_close(in_strips(model, lq, 8), model(lq), atol=tolerance, rtol=tolerance)


class Brighter(Restorer):
    scale = 1

    def guides(self, idr, height, width):
        return {"vector": idr}

    def forward(self, lq, guides):
        return lq * guides["vector"].mean()


def test_an_unknown_network_runs_whole():
    model = network("kdsr")
    model.restorer = Brighter()
    lq = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(in_strips(model, lq, 4), lq * model.estimator(lq).mean())


@pytest.mark.parametrize("pair", ["kdsr", "lightbsr"])
@pytest.mark.parametrize("rows", [0, 4, 100])
def test_progress_adds_up(pair, rows):
    shares: list[float] = []
    list(sr_strips(network(pair), torch.rand(1, 3, 32, 8), rows, shares.append))
    assert sum(shares) == pytest.approx(1)
    assert rows == 0 or min(shares) > 0


def test_streamed_layers():
    torch.manual_seed(0)
    image = torch.rand(2, 4, 40, 7)
    conv, strided = torch.nn.Conv2d(4, 4, 5, padding=2), torch.nn.Conv2d(4, 6, 3, stride=2, padding=1)
    for rows in (1, 2, 6, 13, 40):
        chain = streamed(conv, streamed(conv, cut(image, rows), halo=2), halo=2)
        out = torch.empty_like(image)
        mean = write(added(not_taller(chain, 5), cut(image, 3)), out)
        torch.testing.assert_close(out, conv(conv(image)) + image)
        torch.testing.assert_close(mean, out.mean(dim=(2, 3)))
        if rows % 2 == 0:
            halves = [strip for strip, _ in streamed(strided, cut(image, rows), halo=2, stride=2)]
            torch.testing.assert_close(torch.cat(halves, dim=2), strided(image))


def test_a_layer_may_write_over_its_input():
    torch.manual_seed(0)
    image, conv = torch.rand(1, 4, 40, 7), torch.nn.Conv2d(4, 4, 3, padding=1)
    wanted = conv(image)
    for rows in (1, 2, 7, 40):
        copy = image.clone()
        write(streamed(conv, cut(copy, rows), halo=1), copy)
        torch.testing.assert_close(copy, wanted)


def test_the_last_strip_is_marked():
    strips = list(streamed(lambda x: x, cut(torch.rand(1, 1, 10, 1), 3), halo=4))
    assert [last for _, last in strips] == [False] * (len(strips) - 1) + [True]
    assert sum(strip.shape[2] for strip, _ in strips) == 10
