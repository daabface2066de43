"""LightBSR (ICCV 2025)."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, leaky_relu, linear, pad

from tests.reference.kdsr import distill_loss as kl_divergence
from tests.reference.kdsr import upsampled
from tests.reference.weights import RGB_MEAN, Weights, add_shell

CHANNELS, GROUPS, BLOCKS, WIDTH = 16, 2, 2, 8  # WIDTH is that of the estimator's first convolution
LOCAL, WIDE, IDR = CHANNELS // 4, CHANNELS - CHANNELS // 4, 4 * WIDTH
SPATIAL = IDR // 16
PRIOR = 18  # 15 numbers for the kernel and 3 for the noise
STRIDES = (1, 1, 2, 1, 2, 1)


def weights(scale: int, teacher: bool) -> Weights:
    w = Weights(seed=10 + scale)
    e = "E.encoder_q" if teacher else "E"
    widths = (3 + PRIOR * teacher, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH, IDR, IDR)
    for i, (before, after) in enumerate(pairwise(widths)):
        w.conv(f"{e}.E.{3 * i}", before, after, 3)
        norm = f"{e}.E.{3 * i + 1}"
        for name, around in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
            w.vector(f"{norm}.{name}", after, around)
        w[f"{norm}.running_var"] = 0.5 + torch.rand(after, generator=w.generator)
        w[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    if teacher:
        w.linear(f"{e}.mlp.0", IDR, IDR)
        w.linear(f"{e}.mlp.2", IDR, IDR)
        w["E.encoder_k.E.0.weight"], w["E.queue"], w["E.queue_ptr"] = torch.ones(1), torch.ones(IDR, 4), torch.zeros(1)
    w.linear("G.compress.0", IDR, WIDE, bias=False)
    w.conv("G.afterpixshuffle.0", SPATIAL, SPATIAL, 3)
    for group in range(GROUPS):
        g = f"G.body.{group}"
        w.linear(f"{g}.ca_change.avgafter.0", WIDE, 2 * WIDE)
        w.linear(f"{g}.ca_change.avgafter.2", 2 * WIDE, WIDE)
        w.conv(f"{g}.xk_change.sig1.0", SPATIAL, 2 * SPATIAL, 3)
        w.conv(f"{g}.xk_change.sig1.2", 2 * SPATIAL, SPATIAL, 3)
        for block in range(BLOCKS + 1):
            b = f"{g}.body.{block}"
            if block < BLOCKS:
                w.linear(f"{b}.spatial_mixing.loc.avgafter.0", 2 * WIDE, WIDE // 2, bias=False)
                w.linear(f"{b}.spatial_mixing.loc.avgafter.2", WIDE // 2, WIDE, bias=False)
                w.conv(f"{b}.spatial_mixing.spatial_attention.0", SPATIAL + LOCAL, LOCAL, 1, bias=False)
                w.conv(f"{b}.spatial_mixing.spatial_attention.2", LOCAL, LOCAL, 3, bias=False)
                w.conv(f"{b}.spatial_mixing.partial_conv3", LOCAL, LOCAL, 5, bias=False)
            w.conv(f"{b}.dwconv", CHANNELS, CHANNELS, 7, groups=CHANNELS)
            w.vector(f"{b}.norm.weight", CHANNELS, 1.0)
            w.vector(f"{b}.norm.bias", CHANNELS)
            w.linear(f"{b}.pwconv1", CHANNELS, 2 * CHANNELS)
            w.linear(f"{b}.pwconv2", 2 * CHANNELS, CHANNELS)
            w.vector(f"{b}.gamma", CHANNELS, 0.5)
        w.conv(f"{g}.body.{BLOCKS + 1}", CHANNELS, CHANNELS, 3)
    add_shell(w, CHANNELS, scale, last=GROUPS)
    return w


def estimate(w: Weights, lq: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the IDR map and, for a teacher, the embedding. ``prior`` is N x 18."""
    e = "E" if prior is None else "E.encoder_q"
    x = lq
    if prior is not None:  # constant maps, after the image
        x = torch.cat([lq, prior[:, :, None, None] * torch.ones(1, 1, *lq.shape[2:])], dim=1)
    for i, stride in enumerate(STRIDES):
        x = conv2d(x, w[f"{e}.E.{3 * i}.weight"], w[f"{e}.E.{3 * i}.bias"], stride, padding=1)
        weight, bias, mean, var = (
            w[f"{e}.E.{3 * i + 1}.{name}"].view(1, -1, 1, 1)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        x = leaky_relu((x - mean) / (var + 1e-5).sqrt() * weight + bias, 0.1)
    if prior is None:
        return x, None
    hidden = leaky_relu(linear(x.mean(dim=(2, 3)), w[f"{e}.mlp.0.weight"], w[f"{e}.mlp.0.bias"]), 0.1)
    return x, linear(hidden, w[f"{e}.mlp.2.weight"], w[f"{e}.mlp.2.bias"])


def guides(w: Weights, idr: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the initial channel guide, N x 3/4 C, and spatial guide, N x IDR/16 x H x W."""
    channel = gelu(linear(idr.mean(dim=(2, 3)), w["G.compress.0.weight"]))
    n, _, rows, columns = idr.shape
    shuffled = torch.zeros(n, SPATIAL, 4 * rows, 4 * columns)
    for i in range(4):
        for j in range(4):
            shuffled[:, :, i::4, j::4] = idr[:, 4 * i + j :: 16]
    cropped = shuffled[:, :, :height, :width]
    spatial = gelu(conv2d(cropped, w["G.afterpixshuffle.0.weight"], w["G.afterpixshuffle.0.bias"], padding=1))
    return channel, spatial


def restore(w: Weights, lq: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
    def conv(name: str, x: Tensor, groups: int = 1) -> Tensor:
        weight, bias = w[f"G.{name}.weight"], w.get(f"G.{name}.bias")
        edge = weight.shape[-1] // 2
        return conv2d(pad(x, (edge, edge, edge, edge)), weight, bias, groups=groups)

    def fully(name: str, x: Tensor) -> Tensor:
        return linear(x, w[f"G.{name}.weight"], w.get(f"G.{name}.bias"))

    head = x = conv("head.0", lq - RGB_MEAN)
    for group in range(GROUPS):
        g = f"body.{group}"
        hidden = gelu(fully(f"{g}.ca_change.avgafter.0", channel))
        channel = channel + gelu(fully(f"{g}.ca_change.avgafter.2", hidden))
        hidden = gelu(conv(f"{g}.xk_change.sig1.0", spatial))
        spatial = spatial + gelu(conv(f"{g}.xk_change.sig1.2", hidden))
        start = x
        for block in range(BLOCKS + 1):
            b = f"{g}.body.{block}"
            y = x
            if block < BLOCKS:  # the last one is a ConvNeXt block
                mix = f"{b}.spatial_mixing"
                local, wide = x[:, :LOCAL], x[:, LOCAL:]
                gate = gelu(conv(f"{mix}.spatial_attention.0", torch.cat([spatial, local], dim=1)))
                local = conv(f"{mix}.partial_conv3", local * conv(f"{mix}.spatial_attention.2", gate).sigmoid())
                pooled = torch.cat([wide.mean(dim=(2, 3)), channel], dim=1)
                gate = fully(f"{mix}.loc.avgafter.2", gelu(fully(f"{mix}.loc.avgafter.0", pooled))).sigmoid()
                y = gelu(torch.cat([local, wide * gate[:, :, None, None]], dim=1))
            y = conv(f"{b}.dwconv", y, groups=CHANNELS).permute(0, 2, 3, 1)
            y = (y - y.mean(dim=-1, keepdim=True)) / (y.var(dim=-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            y = y * w[f"G.{b}.norm.weight"] + w[f"G.{b}.norm.bias"]
            y = fully(f"{b}.pwconv2", gelu(fully(f"{b}.pwconv1", y)))
            x = x + (w[f"G.{b}.gamma"] * y).permute(0, 3, 1, 2)
        x = start + conv(f"{g}.body.{BLOCKS + 1}", x)
    return upsampled(w, head + conv(f"body.{GROUPS}", x)) + RGB_MEAN


def distill_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Return the KL divergence plus a tenth of the L1 distance of channel guides, plus the MSE of spatial guides."""
    (channel, spatial), (wanted_channel, wanted_spatial) = student, teacher
    l1 = (channel - wanted_channel).abs().mean()
    return kl_divergence(channel, wanted_channel) + 0.1 * l1 + (spatial - wanted_spatial).square().mean()
