"""The Triton kernels return the values and gradients of the grouped convolution."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from lightbsr_arch.archs.fast import dynamic_conv

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

CASES = [
    # N, C, H, W, K and the dtypes. Tiles have 16 values here and two channels, so that planes have several tiles and
    # partial sums, and channels several blocks.
    (1, 1, 1, 1, 3, ["float32"]),
    (1, 3, 3, 7, 3, ["float32"]),
    (1, 2, 3, 2, 5, ["float32"]),
    (2, 2, 1, 3, 3, ["float32", "bfloat16", "float16"]),
]

INTERPRETED = """
import json, sys
import torch
from lightbsr_arch.archs.fast import dynamic_conv

torch.manual_seed(0)

# The dispatch uses the kernels, in a compiled network as well, without a break of the graph.
dynamic_conv.TRITON_DEVICE = "cpu"
x, kernel = torch.randn(1, 2, 3, 2, requires_grad=True), torch.randn(1, 2, 3, 3, requires_grad=True)
grouped = dynamic_conv._folded_into_groups
dynamic_conv._folded_into_groups = None  # a call would fail
compiled = torch.compile(dynamic_conv.dynamic_depthwise_conv, backend="aot_eager", fullgraph=True)
wanted = grouped(x, kernel)
for way in (compiled, dynamic_conv.dynamic_depthwise_conv):
    made = way(x, kernel)
    assert (made - wanted).abs().max() < 1e-5
    gradients = (torch.autograd.grad(y.square().sum(), (x, kernel), retain_graph=True) for y in (made, wanted))
    for one, other in zip(*gradients):
        assert (one - other).abs().max() < 1e-4
assert dynamic_conv.uses_triton(x.device)
with torch.autocast("cpu", torch.bfloat16):
    assert dynamic_conv.dynamic_depthwise_conv(x, kernel).dtype == torch.bfloat16

from lightbsr_arch.archs.fast import triton_conv

# Second derivatives, with a gradient of one number for all places.
x, kernel = (one.detach().requires_grad_() for one in (x, kernel))
seconds = []
for way in (triton_conv.triton_depthwise_conv, grouped):
    first = torch.autograd.grad(way(x, kernel).sum(), (x, kernel), create_graph=True)
    seconds.append(torch.autograd.grad(sum(one.square().sum() for one in first), (x, kernel)))
for one, other in zip(*seconds):
    assert (one - other).abs().max() < 1e-4

triton_conv.PIXELS_OF_A_PROGRAM, triton_conv.CHANNELS_OF_A_PROGRAM, triton_conv.TILES_OF_A_SUM = 16, 2, 2
differences = []
for *shape, size, dtypes in json.loads(sys.argv[1]):
    x, kernel = torch.randn(shape, dtype=torch.double), torch.randn(*shape[:2], size, size, dtype=torch.double)
    grad = torch.randn(shape, dtype=torch.double)

    def run(way, dtype, memory_format):
        # The double reference starts from the rounded numbers, so that only the convolution differs.
        given, weights, of_out = (one.to(getattr(torch, dtype)) for one in (x, kernel, grad))
        if way is grouped:
            given, weights, of_out = given.double(), weights.double(), of_out.double()
        given, of_out = (one.clone(memory_format=memory_format) for one in (given, of_out))
        given.requires_grad_(), weights.requires_grad_()
        out = way(given, weights)
        out.backward(of_out)
        return out.detach(), given.grad, weights.grad

    for dtype in dtypes:
        wanted = run(grouped, dtype, torch.contiguous_format)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            made = run(triton_conv.triton_depthwise_conv, dtype, memory_format)
            assert [one.dtype for one in made] == 3 * [getattr(torch, dtype)]
            assert made[0].is_contiguous(memory_format=memory_format)
            largest = [
                ((one.double() - other).abs().max() / other.abs().max()).item() for one, other in zip(made, wanted)
            ]
            differences.append([dtype, *largest])
print(json.dumps(differences))
"""


@needs_triton
@pytest.mark.slow
def test_the_interpreted_kernels_equal_the_grouped_convolution():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", INTERPRETED, json.dumps(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    differences = json.loads(done.stdout)
    assert len(differences) == 12
    # One unit of the last place: the interpreter cuts bits off where a GPU rounds to the nearest number.
    tolerances = {"float32": 1e-5, "bfloat16": 2**-7, "float16": 2**-10}
    for dtype, *largest in differences:
        assert len(largest) == 3
        assert max(largest) < tolerances[dtype], (dtype, largest)


@pytest.fixture
def fresh():
    """Let the choice be made again, and once more after the test."""
    dynamic_conv._runs_triton.cache_clear()
    yield
    dynamic_conv._runs_triton.cache_clear()


def test_triton_can_be_switched_off_or_missing(fresh, monkeypatch, recwarn):
    monkeypatch.setenv("LIGHTBSR_TRITON", "0")
    assert not dynamic_conv.uses_triton(torch.device("cpu"))
    dynamic_conv._runs_triton.cache_clear()
    monkeypatch.delenv("LIGHTBSR_TRITON")
    monkeypatch.setitem(sys.modules, "lightbsr_arch.archs.fast.triton_conv", None)
    assert not dynamic_conv.uses_triton(torch.device("cpu"))
    assert not recwarn


@needs_triton
def test_a_device_that_triton_cannot_use_is_a_warning(fresh, monkeypatch):
    monkeypatch.delenv("LIGHTBSR_TRITON", raising=False)
    monkeypatch.setattr(dynamic_conv, "TRITON_DEVICE", "cpu")  # without the interpreter
    x, kernel = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 3, 3)
    with pytest.warns(UserWarning, match=r"The Triton kernels do not run on cpu .*LIGHTBSR_TRITON=0"):
        made = dynamic_conv.dynamic_depthwise_conv(x, kernel)
    assert torch.equal(made, dynamic_conv._folded_into_groups(x, kernel))


def test_a_cpu_never_uses_triton(monkeypatch):
    monkeypatch.setattr(dynamic_conv, "_by_triton", None)  # a call would fail
    x, kernel = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 3, 3)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=memory_format)
        torch.testing.assert_close(
            dynamic_conv.dynamic_depthwise_conv(given, kernel), dynamic_conv._folded_into_groups(x, kernel)
        )
