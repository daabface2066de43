"""Networks of published sizes, and the plain form in which the networks of KDSR and LightBSR were published.

In the plain form, the layers run one after the other, on the whole image and in NCHW memory. The dynamic convolution is
one grouped convolution, layer scale multiplies features, and upsampler and tail are separate layers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr_block import ConvNeXtBlock, IDRBlock, local_and_wide
from lightbsr_arch.archs.part import Guides

NETWORKS: dict[str, dict[str, Any]] = {
    "KDSR-M": {
        "estimator": {"type": "KDIDEStudent", "num_feat": 64, "num_block": 9},
        "restorer": {"type": "IDRDCRBNet", "num_feat": 64, "num_block": 53, "scale": 4},
    },
    "KDSR-L": {
        "estimator": {"type": "KDIDEStudent", "num_feat": 128, "num_block": 5},
        "restorer": {"type": "IDRDCRBNet", "num_feat": 128, "num_block": 28, "scale": 4},
    },
    "LightBSR": {
        "estimator": {"type": "LightIDEStudent", "num_feat": 32},
        "restorer": {"type": "LightBSRNet", "num_feat": 64, "num_group": 8, "num_block": 8, "idr_ch": 128, "scale": 4},
    },
}
"""The students for x4."""


def make_plain(net: Any) -> None:
    """Change a network, in place, to its plain form. Its weights and its output stay the same.

    Raises:
        KeyError: the restorer is neither that of KDSR nor that of LightBSR.
    """
    body = _BODIES[type(net.restorer).__name__]
    net.to(memory_format=torch.contiguous_format)
    net.restorer.forward = partial(_restore, net.restorer, body)


def section(name: str, tiny: bool = False) -> dict[str, dict[str, Any]]:
    """Return the arguments of a network of ``NETWORKS``. ``tiny`` leaves one block and one group, for a dry run."""
    small = {"num_block": 1, "num_group": 1}
    return {
        part: {**values, **{key: small[key] for key in small if tiny and key in values}}
        for part, values in NETWORKS[name].items()
    }


def random_student(name: str, tiny: bool = False) -> BlindSR:
    """Return a network of ``NETWORKS`` with random weights. Its layer scales are not close to zero.

    With PyTorch's initialisation of the estimator, the output has the range of images.
    """
    torch.manual_seed(0)
    parts = section(name, tiny)
    parts["estimator"]["init"] = "pytorch"
    model = BlindSR(**parts).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("layer_scale"):  # at 1e-6, an error in a block would not be visible
                parameter.normal_(std=0.3)
    return model


def _restore(
    net: Any, body: Callable[[Any, torch.Tensor, Guides], torch.Tensor], lq: torch.Tensor, guides: Guides
) -> torch.Tensor:
    head = net.head(net.mean_in.subtract(lq))
    features = head + net.after_body(body(net, head, guides))
    out: torch.Tensor = net.mean_out.add(net.tail(net.upsample(features)))
    return out


def _kdsr_body(net: Any, x: torch.Tensor, guides: Guides) -> torch.Tensor:
    for block in net.body:
        x = block(x, guides["vector"])
    return x


def _lightbsr_body(net: Any, x: torch.Tensor, guides: Guides) -> torch.Tensor:
    channel, spatial = guides["channel_guide"], guides["spatial_guide"]
    for group in net.body:
        channel = channel + group.refine_channel(channel)
        spatial = spatial + group.refine_spatial(spatial)
        *idr_blocks, convnext = group.body
        y = x
        for block in idr_blocks:
            y = _convnext(block, y, _modulated(block, y, channel, spatial))
        x = x + group.conv(_convnext(convnext, y, y))
    return x


def _modulated(block: IDRBlock, x: torch.Tensor, channel: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
    local, wide = x.split(local_and_wide(x.shape[1]), dim=1)
    gate = block.spatial_gate(torch.cat([spatial, local], dim=1)).sigmoid()
    pooled = torch.cat([wide.mean(dim=(2, 3)), channel], dim=1)
    factor = block.channel_gate(pooled).sigmoid()[:, :, None, None]
    return F.gelu(torch.cat([block.local_conv(local * gate), wide * factor], dim=1))


def _convnext(block: ConvNeXtBlock, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    y = block.norm(block.dwconv(y).permute(0, 2, 3, 1))
    y = block.layer_scale * block.reduce(F.gelu(block.expand(y)))
    return x + y.permute(0, 3, 1, 2)


_BODIES = {"IDRDCRBNet": _kdsr_body, "LightBSRNet": _lightbsr_body}
