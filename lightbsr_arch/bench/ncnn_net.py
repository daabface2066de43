"""Networks in ncnn's format, run on the CPU in fp32."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.inference.export_ncnn import cpu_net

TILE = 256
"""Side of a tile in LR pixels. Images with more pixels are split into tiles. Real-ESRGAN needs 3.1 GB for one tile."""

MARGIN = 32
"""Width in LR pixels of the context around a tile. Its output is cut off."""

OUT_OF_MEMORY = -100
"""Return code of ncnn."""

Run = Callable[[torch.Tensor], torch.Tensor]
"""Takes 1 x 3 x H x W, RGB in [0, 1], and returns 1 x 3 x H*scale x W*scale."""


@dataclass(frozen=True)
class NcnnNet:
    """A network in ncnn's format.

    Attributes:
        param: text file of its layers.
        bin: file of its weights.
        scale: the upscaling factor.
        input: name of the blob of the LR image, RGB in [0, 1]; None if there is only one input.
        output: name of the blob of the SR image; None if there is only one output.
    """

    param: str
    bin: str
    scale: int
    input: str | None = None
    output: str | None = None

    def content(self) -> bytes:
        """Return everything that the result depends on: the files, the names and the version of ncnn."""
        try:
            library = version("ncnn")
        except PackageNotFoundError:
            library = "none"
        names = f"{self.input}\0{self.output}\0{library}\0"
        return names.encode() + Path(self.param).read_bytes() + b"\0" + Path(self.bin).read_bytes()

    def load(self) -> Run:
        """Load the network. Return a function that upscales an image, and splits large images into tiles.

        Raises:
            UserError: ncnn is not installed or cannot read a file, a name is missing or unknown, or the network does
                not have three input channels. The returned function raises it for an output of the wrong size.
        """
        try:
            import ncnn

            net = cpu_net()
        except ImportError:
            raise UserError(f"{self.param}: ncnn is not installed: pip install 'lightbsr-arch[rivals]'") from None
        if net.load_param(self.param):
            raise UserError(f"{self.param}: ncnn cannot read its layers; expected a .param file in text format")
        source = _only("input", self.input, net.input_names(), self.param)
        target = _only("output", self.output, net.output_names(), self.param)
        channels = sorted(set(_channels(self.param, source)) - {3})
        if channels:  # otherwise ncnn reads past the end of the image
            raise UserError(f"{self.param}: {source} has {channels[0]} channels, expected 3, an RGB image")
        if net.load_model(self.bin):
            raise UserError(f"{self.bin}: ncnn cannot read the weights of {self.param}; the file is cut short or wrong")

        def run(lq: torch.Tensor) -> torch.Tensor:
            extractor = net.create_extractor()
            pixels = lq[0].contiguous().numpy()  # the name keeps the array alive, because Mat only points to its memory
            extractor.input(source, ncnn.Mat(pixels).clone())
            code, blob = extractor.extract(target)
            if code == OUT_OF_MEMORY:
                raise MemoryError
            if code:
                raise UserError(f"{self.param}: ncnn cannot compute {target} from {source} (code {code})")
            sr, expected = np.array(blob), (3, *(side * self.scale for side in lq.shape[-2:]))
            if sr.shape != expected:
                found, wanted = (" x ".join(map(str, shape)) for shape in (sr.shape, expected))
                raise UserError(f"{self.param}: {target} is {found}, expected {wanted} at scale {self.scale}")
            return torch.from_numpy(sr)[None]

        return lambda lq: in_tiles(run, lq, self.scale)


def in_tiles(run: Run, lq: torch.Tensor, scale: int, tile: int = TILE, margin: int = MARGIN) -> torch.Tensor:
    """Upscale an image whole, or tile by tile if it has more pixels than one tile.

    Args:
        run: the network.
        lq: 1 x 3 x H x W.
        scale: the upscaling factor.
        tile: side of a tile in LR pixels.
        margin: width in LR pixels of the context around a tile. The result equals that without tiles if the receptive
            field does not reach further.

    Returns:
        1 x 3 x H*scale x W*scale.
    """
    height, width = lq.shape[-2:]
    if height * width <= tile**2:
        return run(lq)
    sr = lq.new_empty(1, 3, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            first_row, first_column = max(top - margin, 0), max(left - margin, 0)
            part = run(lq[..., first_row : bottom + margin, first_column : right + margin])
            rows = slice((top - first_row) * scale, (bottom - first_row) * scale)
            columns = slice((left - first_column) * scale, (right - first_column) * scale)
            sr[..., top * scale : bottom * scale, left * scale : right * scale] = part[..., rows, columns]
    return sr


def _only(kind: str, name: str | None, names: list[str], path: str) -> str:
    """Return the given name, or the only one."""
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return str(name)
    found = f"has the {kind}s {', '.join(names) or '(none)'}"
    advice = f"name one as `{kind}`" if name is None else f"none is called {name}"
    raise UserError(f"{path}: {found}; {advice}")


def _channels(path: str, blob: str) -> Iterator[int]:
    """Yield the numbers of channels that the convolutions of a blob expect."""
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[2:]:
        kind, _, *rest = line.split() or ["", ""]
        if kind not in ("Convolution", "Split"):
            continue
        sources, targets = int(rest[0]), int(rest[1])
        names = rest[2 : 2 + sources + targets]
        if blob not in names[:sources]:
            continue
        if kind == "Split":
            for name in names[sources:]:
                yield from _channels(path, name)
            continue
        values = dict(pair.split("=", 1) for pair in rest[2 + sources + targets :])
        width = int(values["1"])
        yield int(values["6"]) // (int(values["0"]) * width * int(values.get("11", width)))
