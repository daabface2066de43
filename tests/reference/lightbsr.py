"""LightBSR (ICCV 2025)."""

import torch
from torch import Tensor
from torch.nn.functional import gelu

from tests.reference.kdsr import distill_loss as kl_divergence
from tests.reference.layers import State, conv, convnext, count, dense, encode, enlarged_by_4, perceptron, restored
from tests.reference.weights import Weights

CHANNELS, GROUPS, BLOCKS, WIDTH = 16, 2, 2, 8  # WIDTH is that of the estimator's first convolution
LOCAL, WIDE, IDR = CHANNELS // 4, CHANNELS - CHANNELS // 4, 4 * WIDTH
SPATIAL = IDR // 16
PRIOR = 18  # 15 numbers of the kernel, 3 of the noise


def weights(scale: int, teacher: bool) -> Weights:
    w = Weights(seed=10 + scale)
    e = "E.encoder_q" if teacher else "E"
    w.encoder(f"{e}.E", 3 + PRIOR * teacher, WIDTH)
    if teacher:
        w.perceptron(f"{e}.mlp", IDR, IDR, IDR)
        w["E.encoder_k.E.0.weight"], w["E.queue"], w["E.queue_ptr"] = torch.ones(1), torch.ones(IDR, 4), torch.zeros(1)
    w.linear("G.compress.0", IDR, WIDE, bias=False)
    w.conv("G.afterpixshuffle.0", SPATIAL, SPATIAL, 3)
    for group in range(GROUPS):
        g = f"G.body.{group}"
        w.perceptron(f"{g}.ca_change.avgafter", WIDE, 2 * WIDE, WIDE)
        w.conv(f"{g}.xk_change.sig1.0", SPATIAL, 2 * SPATIAL, 3)
        w.conv(f"{g}.xk_change.sig1.2", 2 * SPATIAL, SPATIAL, 3)
        for block in range(BLOCKS + 1):
            b = f"{g}.body.{block}"
            if block < BLOCKS:
                w.perceptron(f"{b}.spatial_mixing.loc.avgafter", 2 * WIDE, WIDE // 2, WIDE, bias=False)
                w.conv(f"{b}.spatial_mixing.spatial_attention.0", SPATIAL + LOCAL, LOCAL, 1, bias=False)
                w.conv(f"{b}.spatial_mixing.spatial_attention.2", LOCAL, LOCAL, 3, bias=False)
                w.conv(f"{b}.spatial_mixing.partial_conv3", LOCAL, LOCAL, 5, bias=False)
            w.convnext(b, CHANNELS)
        w.conv(f"{g}.body.{BLOCKS + 1}", CHANNELS, CHANNELS, 3)
    w.shell(CHANNELS, scale, last=GROUPS)
    return w


def estimate(w: State, lq: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the IDR map and, for a teacher, the embedding; ``prior`` is N x 18."""
    if prior is None:
        return encode(w, "E.E", lq), None
    # Constant maps, after the image.
    maps = prior[:, :, None, None] * torch.ones(1, 1, *lq.shape[2:])
    idr = encode(w, "E.encoder_q.E", torch.cat([lq, maps], dim=1))
    return idr, perceptron(w, "E.encoder_q.mlp", idr.mean(dim=(2, 3)))


def guides(w: State, idr: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the initial channel guide, N x 3/4 C, and spatial guide, N x IDR/16 x H x W."""
    channel = gelu(dense(w, "G.compress.0", idr.mean(dim=(2, 3))))
    return channel, gelu(conv(w, "G.afterpixshuffle.0", enlarged_by_4(idr)[:, :, :height, :width]))


def restore(w: State, lq: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
    def body(x: Tensor) -> Tensor:
        channel_guide, spatial_guide = channel, spatial
        local_channels = x.shape[1] // 4
        for group in range(count(w, r"G\.body\.(\d+)\.body\.0\.dwconv\.weight")):
            g = f"G.body.{group}"
            channel_guide = channel_guide + gelu(perceptron(w, f"{g}.ca_change.avgafter", channel_guide, gelu))
            hidden = gelu(conv(w, f"{g}.xk_change.sig1.0", spatial_guide))
            spatial_guide = spatial_guide + gelu(conv(w, f"{g}.xk_change.sig1.2", hidden))
            start = x
            blocks = count(w, rf"G\.body\.{group}\.body\.(\d+)\.dwconv\.weight")
            for block in range(blocks):
                b = f"{g}.body.{block}"
                y = x
                if block < blocks - 1:  # the last one is a ConvNeXt block
                    mix = f"{b}.spatial_mixing"
                    local, wide = x[:, :local_channels], x[:, local_channels:]
                    gate = gelu(conv(w, f"{mix}.spatial_attention.0", torch.cat([spatial_guide, local], dim=1)))
                    gate = conv(w, f"{mix}.spatial_attention.2", gate).sigmoid()
                    local = conv(w, f"{mix}.partial_conv3", local * gate)
                    pooled = torch.cat([wide.mean(dim=(2, 3)), channel_guide], dim=1)
                    factor = perceptron(w, f"{mix}.loc.avgafter", pooled, gelu).sigmoid()
                    y = gelu(torch.cat([local, wide * factor[:, :, None, None]], dim=1))
                x = convnext(w, b, x, y)
            x = start + conv(w, f"{g}.body.{blocks}", x)
        return x

    return restored(w, lq, body)


def outputs(w: State, lq: Tensor, prior: Tensor | None = None) -> dict[str, Tensor]:
    idr, embedding = estimate(w, lq, prior)
    channel, spatial = guides(w, idr, *lq.shape[2:])
    found = {"fea": idr, "idr_channel": channel, "idr_spatial": spatial, "sr": restore(w, lq, channel, spatial)}
    return found if embedding is None else {**found, "embedding": embedding}


def distill_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Return the KL divergence plus a tenth of the L1 distance of channel guides, plus the MSE of spatial guides."""
    (channel, spatial), (wanted_channel, wanted_spatial) = student, teacher
    l1 = (channel - wanted_channel).abs().mean()
    return kl_divergence(channel, wanted_channel) + 0.1 * l1 + (spatial - wanted_spatial).square().mean()
