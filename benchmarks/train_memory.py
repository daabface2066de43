"""Peak memory of a training step of the published recipes. It is computed without a GPU, and nothing is allocated.

    python benchmarks/train_memory.py [--batch 16 32] [--gpu-gb 24] [--only TEXT] [--tiny] [--page docs/gpu.md]

The networks run on the meta device, where tensors have no content, and a dispatch mode adds up the bytes of all tensors
that exist at the same time: weights, gradients, the optimiser's state, and what backpropagation needs. The step is in
fp32 and channels-last memory, with the grouped form of the dynamic convolution. It includes the losses of the images
and of the networks' knowledge. It does not include the degradation, the discriminator and the perceptual loss. The CUDA
context, the workspaces of cuDNN and fragmentation need additional memory. The second peak is that of
`train.checkpoint_activations: true`.
"""

import argparse
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch
from pages import table, write_between

import lightbsr_arch  # noqa: F401  # before BasicSR, which it makes importable

# isort: split
from basicsr.utils.registry import ARCH_REGISTRY
from recipe_steps import STEPS, options_of
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from lightbsr_arch.archs.degradation_prior import DegradationPrior
from lightbsr_arch.degradations import Parameters


class MemoryMeter(TorchDispatchMode):
    """Adds up the bytes of the storages that operations make, as long as these exist.

    Attributes:
        now: bytes that exist.
        peak: largest value of ``now`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return out

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor, unless it is counted already."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", help="batches per GPU; default: that of the recipe")
    parser.add_argument("--gpu-gb", type=float, help="also print the largest batch for a GPU with this memory")
    parser.add_argument("--only", default="", metavar="TEXT", help="only steps whose name contains TEXT")
    parser.add_argument("--tiny", action="store_true", help="small networks and pictures, for a dry run")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    args = parser.parse_args()
    heads = ["step", "batch", "LR", "weights, GB", "peak, GB", "checkpointed, GB"]
    if args.gpu_gb:
        heads += ["largest batch", "checkpointed"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, step in STEPS.items():
            if args.only not in name or "GAN" in name:
                continue
            opt = options_of(step, Path(folder), torch.device("cpu"), args.tiny)
            for batch in args.batch or [opt["datasets"]["train"]["batch_size_per_gpu"]]:
                weights, peak = measure(opt, batch)
                less = measure(opt, batch, checkpointed=True)[1]
                cells = [name, batch, lq_size(opt), f"{weights / 1e9:.3f}", f"{peak / 1e9:.2f}", f"{less / 1e9:.2f}"]
                if args.gpu_gb:
                    for at_batch, checkpointed in ((peak, False), (less, True)):
                        per_image = (measure(opt, 2 * batch, checkpointed)[1] - at_batch) / batch
                        cells.append(max(int(batch + (1e9 * args.gpu_gb - at_batch) / per_image), 0))
                rows.append([*map(str, cells)])
                print("; ".join(f"{head} {cell}" for head, cell in zip(heads, rows[-1])), file=sys.stderr, flush=True)
    text = table(heads, rows)
    print(text)
    if args.page:
        write_between(args.page, "train_memory", text)


def lq_size(opt: dict[str, Any]) -> int:
    """Return the side of the low-quality pictures that the networks receive."""
    size: int = opt["degradation"].get("gt_size", opt["datasets"]["train"]["gt_size"])
    return size // opt["scale"]


def measure(opt: dict[str, Any], batch: int, checkpointed: bool = False) -> tuple[int, int]:
    """Return the bytes of the weights and the peak of a training step."""
    meter = MemoryMeter()
    with torch.device("meta"):
        net = on_meta(opt["network_g"])
        net.restorer.checkpoint_activations = checkpointed
        teacher = on_meta(opt["network_teacher"]).requires_grad_(False) if "network_teacher" in opt else None
        side, scale = lq_size(opt), opt["scale"]
        patches = opt["datasets"]["train"].get("patches_per_item", 1)
        lq = torch.rand(batch * patches, 3, side, side).contiguous(memory_format=torch.channels_last)
        gt = torch.rand(batch * patches, 3, side * scale, side * scale)
        prior = Parameters(torch.rand(batch * patches, 21, 21), torch.rand(batch * patches))
    inputs = {"gt": gt, "prior": prior}
    for tensor in (*net.parameters(), *net.buffers(), lq, gt, *(teacher.parameters() if teacher else ())):
        meter.add(tensor)
    weights = sum(parameter.nbytes for parameter in net.parameters())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, foreach=False)
    with meter:
        for _ in range(2):  # the optimiser's state exists from the second step
            optimizer.zero_grad()
            knowledge = net.knows if patches > 1 else ()
            if teacher:
                knowledge = [name for name in net.knows if name in teacher.knows]
            sr, known = forward(net, lq, inputs, knowledge, patches)
            loss = F.l1_loss(sr, gt[::patches])
            if teacher:
                with torch.no_grad():
                    _, wanted = forward(teacher, lq, inputs, knowledge, patches)
                loss = loss + sum((known[name] - wanted[name]).square().mean() for name in knowledge)
            else:
                loss = loss + sum(tensor.square().mean() for tensor in known.values())
            loss.backward()
            optimizer.step()
            del sr, known, loss
    return weights, meter.peak


def on_meta(section: dict[str, Any]) -> Any:
    """Build a network section in channels-last memory on the default device."""
    arguments = dict(section)
    net: nn.Module = ARCH_REGISTRY.get(arguments.pop("type"))(**arguments)
    for module in net.modules():
        if isinstance(module, DegradationPrior):
            module._seen_fitted = True  # numbers on the meta device cannot be read
    return net.to(memory_format=torch.channels_last)


def forward(net: Any, lq: torch.Tensor, inputs: dict[str, Any], knowledge: Any, patches: int) -> tuple[Any, Any]:
    """Return the SR images and the knowledge of a network."""
    extra = () if net.extra_input is None else (inputs[net.extra_input],)
    result = net(lq, *extra, knowledge=knowledge, num_patch=patches)
    return result if knowledge else (result, {})


if __name__ == "__main__":
    main()
