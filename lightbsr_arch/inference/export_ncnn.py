"""Export of networks as files of ncnn, which runs them without PyTorch and Python.

Tencent's converter pnnx writes the files from a trace of the network. They are compared with PyTorch by ncnn itself.
"""

import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.archs.part import Network, needs_lq_only
from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.inference.export import (
    TOLERANCE,
    Exported,
    Graph,
    check_target,
    graphs_of,
    refuse_folders,
    without_batch_norms,
)
from lightbsr_arch.io import whole_file

BLOBS = {"lq": "data", "sr": "output", "idr": "idr"}
"""Names of inputs and outputs. "data" and "output" are the names in realesrgan-ncnn-vulkan and its descendants."""

SIZES = ((24, 32), (37, 45))
"""Heights and widths of two example images. pnnx makes every size dynamic in which they differ."""

CHECKED_SIZE = (26, 51)
"""Height and width of the image for the check of the files."""


def export_ncnn(
    name_or_path: str | Path,
    dst: str | Path,
    dtype: str = "fp32",
    split: bool = False,
    start: Callable[[], None] = lambda: None,
) -> Exported:
    """Write a student as NAME.param, the layers, and NAME.bin, the weights.

    The input is ``data``, 3 x H x W, RGB in [0, 1]. The output is ``output``, 3 x H*scale x W*scale, not clamped. H and
    W are dynamic. There is no batch.

    Args:
        name_or_path: see ``lightbsr_arch.load``.
        dst: the file of the layers, NAME.param. Both files appear whole or not at all.
        dtype: number format of the stored weights, "fp32" or "fp16". The program that runs the network chooses that of
            the computation.
        split: write two networks instead: NAME_estimator computes ``idr`` from ``data``, and NAME_restorer computes
            ``output`` from ``data`` and ``idr``.
        start: called after the arguments have been checked, before the slow part.

    Raises:
        UserError: the weights are missing or belong to a teacher; pnnx is not installed; the network cannot be
            converted or split; a file cannot be written; or ncnn's output differs from PyTorch's.
    """
    src, dst = find_weights(name_or_path), Path(dst)
    if dst.suffix != ".param":
        raise UserError(f"{dst}: the exported layers must be named .param")
    check_target(dst, "pnnx", "files of ncnn are written with pnnx: pip install 'lightbsr-arch[ncnn]'")
    import pnnx

    model = read_checkpoint(src).build()
    needs_lq_only(model, src)
    generator = torch.Generator().manual_seed(0)
    *lqs, checked = (torch.rand(1, model.num_in_ch, *size, generator=generator) for size in (*SIZES, CHECKED_SIZE))
    examples = [graphs_of(model, lq, src, dst, split) for lq in lqs]
    refuse_folders(graph.dst.with_suffix(suffix) for graph in examples[0] for suffix in (".param", ".bin"))
    start()

    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        pairs = []
        for number, (graph, other) in enumerate(zip(*examples)):
            folder = Path(temporary, str(number))
            folder.mkdir()
            pairs.append(_convert(pnnx.EXEC_PATH, graph, other, dtype, folder))
        difference = _largest_difference(examples[0], pairs, model, checked)
        if difference is not None and not difference <= TOLERANCE[dtype]:
            raise UserError(f"{dst}: not written: ncnn differs from PyTorch by {difference:.1e}")
        files = []
        for graph, pair in zip(examples[0], pairs):
            for made in pair:
                files.append(graph.dst.with_suffix(made.suffix))
                shutil.copyfile(made, stack.enter_context(whole_file(files[-1])))
    return Exported(tuple(files), None, sum(file.stat().st_size for file in files), difference)


def cpu_net() -> Any:
    """Return an empty network of ncnn, which will compute on the CPU in fp32.

    Raises:
        ImportError: ncnn is not installed.
    """
    import ncnn

    net = ncnn.Net()
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, option, False)  # 16 bits change the output by up to 0.002 of the range
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = torch.get_num_threads()
    return net


def run_net(param: Path, inputs: Mapping[str, torch.Tensor], output: str) -> torch.Tensor:
    """Run the network NAME.param and NAME.bin.

    Args:
        param: the file of the layers.
        inputs: tensors with a batch of one, by the names of their blobs.
        output: the name of the output.

    Raises:
        ImportError: ncnn is not installed.
        UserError: ncnn cannot read or run the network.
    """
    net = cpu_net()
    import ncnn

    arrays = {name: tensor[0].contiguous().numpy() for name, tensor in inputs.items()}  # Mat points to their memory
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise UserError(f"{param}: ncnn cannot read this network")
    extractor = net.create_extractor()
    for name, array in arrays.items():
        extractor.input(name, ncnn.Mat(array).clone())
    code, blob = extractor.extract(output)
    if code:
        raise UserError(f"{param}: ncnn cannot compute {output} (code {code})")
    return torch.from_numpy(np.array(blob))[None]


def _convert(program: str, graph: Graph, other: Graph, dtype: str, folder: Path) -> tuple[Path, Path]:
    """Convert a network in a folder.

    Args:
        program: path of pnnx.
        graph: the network, with examples of its inputs.
        other: the same with examples of other sizes.
        dtype: number format of the weights.
        folder: an empty folder.

    Returns:
        The paths of the layers and of the weights.
    """
    network = without_batch_norms(graph.network).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become numbers, which pnnx replaces by comparing two traces
        traced = torch.jit.trace(network, tuple(graph.inputs.values()), check_trace=False)
        torch.jit.save(traced, str(folder / "net.pt"))
    command = [program, "net.pt", f"inputshape={_shapes(graph)}", f"inputshape2={_shapes(other)}"]
    command += [f"fp16={int(dtype == 'fp16')}", "ncnnparam=net.param", "ncnnbin=net.bin"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    param, weights = folder / "net.param", folder / "net.bin"
    if done.returncode or not (param.is_file() and weights.is_file()):
        last = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise UserError(f"{graph.dst}: pnnx cannot convert this network: {last}")
    text = param.read_text(encoding="utf-8")
    foreign = {line.split()[0] for line in text.splitlines()[2:] if re.match(r"\w+[.:]", line)}
    if foreign:
        raise UserError(f"{graph.dst}: ncnn has no layer for {', '.join(sorted(foreign))} of this network")
    names = {f"in{number}": BLOBS[name] for number, name in enumerate(graph.inputs)} | {"out0": BLOBS[graph.output]}
    text = re.sub(r"(?<!\S)(in\d+|out\d+)(?!\S)", lambda match: names.get(match[0], match[0]), text)
    param.write_text(text, encoding="utf-8")
    return param, weights


def _shapes(graph: Graph) -> str:
    return ",".join(f"[{','.join(map(str, example.shape))}]f32" for example in graph.inputs.values())


def _largest_difference(
    graphs: Sequence[Graph], pairs: Sequence[tuple[Path, Path]], model: Network, lq: torch.Tensor
) -> float | None:
    """Return the largest difference between ncnn's output for ``lq`` and PyTorch's; None without ncnn.

    With two networks, the output of the first is the second input of the other.
    """
    known = {"lq": lq}
    try:
        for graph, (param, _) in zip(graphs, pairs):
            inputs = {BLOBS[name]: known[name] for name in graph.inputs}
            known[graph.output] = run_net(param, inputs, BLOBS[graph.output])
    except ImportError:
        return None
    except UserError as error:
        raise UserError(f"{graphs[0].dst}: not written: {str(error).partition(': ')[2]}") from None
    with torch.inference_mode():
        sr = model(lq)
    if known["sr"].shape != sr.shape:
        raise UserError(
            f"{graphs[0].dst}: not written: ncnn's output is {tuple(known['sr'].shape)}, not {tuple(sr.shape)}"
        )
    return float((known["sr"] - sr).abs().max())
