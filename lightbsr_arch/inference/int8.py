"""Static quantisation of ONNX files to int8 by onnxruntime."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightbsr.errors import UserError
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.data.picture_files import find_pictures

Feed = dict[str, NDArray[np.float32]]
"""Arrays of a network's inputs, by name."""

Chosen = Callable[[Any], bool]
"""A condition on a node of the graph."""

CALIBRATION_PICTURES, CALIBRATION_SIDE = 20, 96
"""Number of pictures, and longest side of their crops in pixels. Calibration keeps the features of all layers."""


def dense_body_convolution(node: Any) -> bool:
    """Return whether a node is a 3x3 convolution over all channels in the restorer's body.

    In int8, these convolutions cost 0.01 dB, but all operations together cost 0.1 to 0.2 dB (docs/speed.md).
    """
    if node.op_type != "Conv" or "restorer.body." not in node.input[1]:
        return False
    attributes = {attribute.name: attribute for attribute in node.attribute}
    return attributes["group"].i == 1 and [*attributes["kernel_shape"].ints] == [3, 3]


def calibration_crops(source: str | Path) -> list[torch.Tensor]:
    """Return middle crops of low-quality pictures, each 1 x 3 x H x W, RGB in [0, 1].

    Args:
        source: a folder, glob or file. ``CALIBRATION_PICTURES`` of its pictures are read, at even distances.

    Raises:
        UserError: there are no pictures, or a picture cannot be read.
    """
    pictures = find_pictures([source])
    number = min(len(pictures), CALIBRATION_PICTURES)
    crops = []
    for picture in (pictures[index * len(pictures) // number] for index in range(number)):
        if picture.problem:
            raise UserError(f"{picture.path}: {picture.problem}")
        image = to_tensor(read_image(picture.path))
        top, left = (max(0, side - CALIBRATION_SIDE) // 2 for side in image.shape[1:])
        crops.append(image[None, :, top : top + CALIBRATION_SIDE, left : left + CALIBRATION_SIDE])
    return crops


def quantise(
    file: Path, feeds: Iterable[Feed], chosen: Chosen = dense_body_convolution, op_types: list[str] | None = None
) -> int:
    """Quantise nodes of an ONNX file in place, with one scale per output channel of the weights. Return their number.

    Args:
        file: the file. It stays as it is if no node is chosen.
        feeds: inputs for calibration.
        chosen: returns whether a node is quantised.
        op_types: types of the nodes that can be quantised; None for all.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.rest, None)

    model = onnx.load(str(file))
    others = [node.name for node in model.graph.node if not chosen(node)]
    number = len(model.graph.node) - len(others)
    if number:
        quantize_static(
            model,
            str(file),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=op_types,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=others,
        )
    return number
