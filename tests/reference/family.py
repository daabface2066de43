"""DASR (CVPR 2021), MRDA (TIP 2023), CdCL (TIP 2025), MM-RealSR (ECCV 2022) and SRMD (CVPR 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import gelu, leaky_relu, pixel_shuffle, relu

from tests.reference.layers import (
    State,
    conv,
    convnext,
    count,
    dense,
    dynamic_conv,
    encode,
    enlarged_by_4,
    leaky,
    perceptron,
    restored,
)  # fmt: skip
from tests.reference.weights import Weights

CHANNELS, WIDTH, GROUPS, BLOCKS = 8, 4, 2, 2  # WIDTH: of the estimator's first convolution
IDR = 4 * WIDTH
DF2K_MEAN = torch.tensor([0.4680, 0.4484, 0.4029]).view(1, 3, 1, 1)

DynamicConv = Callable[[State, str, Tensor, Tensor], Tensor]

# ------------------------------------------------------------------------------------------ DASR and MRDA


def dasr_weights(scale: int) -> Weights:
    c, w = CHANNELS, Weights(seed=20 + scale)
    w.encoder("E.encoder_q.E", 3, WIDTH)
    w["E.encoder_q.E.0.weight"] /= 255  # so that outputs are near 1, although white is 255
    w.perceptron("E.encoder_q.mlp", IDR, IDR, IDR)
    w.linear("G.compress.0", IDR, c, bias=False)
    for group in range(GROUPS):
        for block in range(BLOCKS):
            b = f"G.body.{group}.body.{block}"
            for i in (1, 2):
                w.perceptron(f"{b}.da_conv{i}.kernel", c, c, 9 * c, bias=False)
                w.conv(f"{b}.da_conv{i}.conv", c, c, 1)
                w.conv(f"{b}.da_conv{i}.ca.conv_du.0", c, c // 8, 1, bias=False)
                w.conv(f"{b}.da_conv{i}.ca.conv_du.2", c // 8, c, 1, bias=False)
                w.conv(f"{b}.conv{i}", c, c, 3)
        w.conv(f"G.body.{group}.body.{BLOCKS}", c, c, 3)
    w.shell(c, scale, last=GROUPS)
    return w


def da_conv(w: State, name: str, x: Tensor, vector: Tensor) -> Tensor:
    """DASR's convolution: a dynamic one, mixed between channels, and the input under a gate per channel."""
    mixed = conv(w, f"{name}.conv", leaky(dynamic_conv(w, f"{name}.kernel", x, vector)))
    return mixed + x * perceptron(w, f"{name}.ca.conv_du", vector).sigmoid()[:, :, None, None]


def rda_conv(w: State, name: str, x: Tensor, vector: Tensor) -> Tensor:
    """MRDA's convolution: a dynamic one under a mask per pixel, and the input."""
    return leaky(dynamic_conv(w, f"{name}.kernel", x, vector)) * conv(w, f"{name}.conv", x).sigmoid() + x


def da_block(w: State, name: str, x: Tensor, vector: Tensor, dynamic: DynamicConv) -> Tensor:
    y = leaky(dynamic(w, f"{name}.da_conv1", x, vector))
    y = leaky(conv(w, f"{name}.conv1", y))
    y = leaky(dynamic(w, f"{name}.da_conv2", y, vector))
    return x + conv(w, f"{name}.conv2", y)


def dasr(w: State, lq: Tensor) -> dict[str, Tensor]:
    """DASR works on images of 0 to 255."""
    idr = encode(w, "E.encoder_q.E", 255 * lq).mean(dim=(2, 3))
    vector = leaky(dense(w, "G.compress.0", idr))

    def body(x: Tensor) -> Tensor:
        for group in range(count(w, r"G\.body\.(\d+)\.body\.0\.conv1\.weight")):
            start = x
            blocks = count(w, rf"G\.body\.{group}\.body\.(\d+)\.conv1\.weight")
            for block in range(blocks):
                x = da_block(w, f"G.body.{group}.body.{block}", x, vector, da_conv)
            x = start + conv(w, f"G.body.{group}.body.{blocks}", x)
        return x

    sr = restored(w, lq, body, white=255.0)
    return {"idr": idr, "embedding": perceptron(w, "E.encoder_q.mlp", idr), "sr": sr}


def mrda_weights(scale: int) -> Weights:
    c, w = CHANNELS, Weights(seed=30 + scale)
    w.encoder("E_st.E", 3, WIDTH, batch_norm=False)
    w.perceptron("E_st.mlp", IDR, IDR, IDR)
    w.linear("G.compress.0", IDR, c, bias=False)
    for block in range(BLOCKS):
        b = f"G.body.0.body.{block}"
        for i in (1, 2):
            w.perceptron(f"{b}.da_conv{i}.kernel", c, c, 9 * c, bias=False)
            w.conv(f"{b}.da_conv{i}.conv", c, 1, 1)
            w.conv(f"{b}.conv{i}", c, c, 3)
    w.shell(c, scale, last=1)
    return w


def mrda(w: State, lq: Tensor) -> dict[str, Tensor]:
    idr = perceptron(w, "E_st.mlp", encode(w, "E_st.E", lq).mean(dim=(2, 3)))
    vector = leaky(dense(w, "G.compress.0", idr))

    def body(x: Tensor) -> Tensor:
        for block in range(count(w, r"G\.body\.0\.body\.(\d+)\.conv1\.weight")):
            x = da_block(w, f"G.body.0.body.{block}", x, vector, rda_conv)
        return x

    return {"idr": idr, "sr": restored(w, lq, body)}


# ------------------------------------------------------------------------------------------ CdCL


def cdcl_weights(scale: int) -> Weights:
    c, idr = CHANNELS, 2 * IDR  # two channels of spatial guide, so that their order matters
    spatial, narrow = idr // 16, idr // 4
    w = Weights(seed=40 + scale)
    w.encoder("E.encoder.0.E", 3, 2 * WIDTH)
    for name, before, after in (("linear1", idr, idr), ("linear2", idr, idr)):
        w.linear(f"E.encoder.1.{name}", before, after)
        w.batch_norm(f"E.encoder.1.{name.replace('linear', 'bn')}", after)
    w.linear("E.predictor.linear1", idr, narrow)
    w.batch_norm("E.predictor.bn1", narrow)
    w.linear("E.predictor.layer2", narrow, idr)
    w.linear("G.compress.0", idr, c, bias=False)
    w.conv("G.afterpixshuffle.0", spatial, c, 3)
    w.conv("G.afterpixshuffle.2", c, spatial, 3)
    for group in range(GROUPS):
        g = f"G.body.{group}.body"
        for block in range(BLOCKS):
            d = f"{g}.{block}.da_conv"
            w.perceptron(f"{d}.loc.avgafter", c, c // 4, c, bias=False)
            w.conv(f"{d}.conv.0", c, c, 1)
            w.conv(f"{d}.conv.1", c, c, 3, groups=c)
            w.conv(f"{d}.sig1.0", spatial, spatial, 3)
            w.conv(f"{d}.sig1.2", spatial, 1, 3)
        for block in range(BLOCKS + 1):
            w.convnext(f"{g}.{block}", c)
        w.conv(f"{g}.{BLOCKS + 1}", c, c, 3)
    w.shell(c, scale, last=GROUPS)
    return w


def cdcl(w: State, lq: Tensor) -> dict[str, Tensor]:
    height, width = lq.shape[2:]
    idr = encode(w, "E.encoder.0.E", lq)
    pooled = idr.mean(dim=(2, 3))
    channel = gelu(dense(w, "G.compress.0", pooled))
    spatial = gelu(conv(w, "G.afterpixshuffle.0", enlarged_by_4(idr)))
    spatial = gelu(conv(w, "G.afterpixshuffle.2", spatial))[:, :, :height, :width]

    def degradation_conv(d: str, x: Tensor) -> Tensor:
        vectors = (x.mean(dim=(2, 3)), channel)
        gate = sum(perceptron(w, f"{d}.loc.avgafter", vector, gelu) for vector in vectors).sigmoid()
        by_channel = conv(w, f"{d}.conv.0", x * gate[:, :, None, None])
        by_channel = conv(w, f"{d}.conv.1", by_channel, groups=x.shape[1])
        by_pixel = conv(w, f"{d}.sig1.2", gelu(conv(w, f"{d}.sig1.0", spatial))).sigmoid()
        return by_channel + x * by_pixel

    def body(x: Tensor) -> Tensor:
        for group in range(count(w, r"G\.body\.(\d+)\.body\.0\.dwconv\.weight")):
            g, start = f"G.body.{group}.body", x
            blocks = count(w, rf"G\.body\.{group}\.body\.(\d+)\.dwconv\.weight")
            for block in range(blocks - 1):
                x = convnext(w, f"{g}.{block}", x, gelu(degradation_conv(f"{g}.{block}.da_conv", x)))
            x = convnext(w, f"{g}.{blocks - 1}", x, x)
            x = start + conv(w, f"{g}.{blocks}", x)
        return x

    return {"idr": idr, "idr_vector": pooled, "sr": restored(w, lq, body, mean=DF2K_MEAN)}


# ------------------------------------------------------------------------------------------ MM-RealSR


def mmrealsr_weights(scale: int) -> Weights:
    c, grown, embedded, hidden = 4, 3, 6, 5
    w = Weights(seed=50 + scale)
    for degree in range(2):
        w.conv(f"de_net.conv_first.{degree}", 3, c, 3)
        for layer in range(5):  # one residual block per stage, and a convolution of stride 2 before the last
            d = f"de_net.body.{degree}.{layer}"
            if layer == 3:
                w.conv(d, c, 2 * c, 3)
                continue
            for i in (1, 2):
                w.conv(f"{d}.conv{i}", *[2 * c if layer == 4 else c] * 2, 3)
        w.perceptron(f"de_net.fc_degree.{degree}", 2 * c, hidden, 1)
    w.linear("dd_embed.0", 2, embedded)
    w.conv("conv_first", 3, c, 3)
    for block in range(BLOCKS):
        for dense_block in (1, 2, 3):
            for i in range(5):
                w.conv(f"body.{block}.rdb{dense_block}.conv{i + 1}", c + i * grown, c if i == 4 else grown, 3)
        w.perceptron(f"am_list.{block}.fc", embedded, hidden, hidden)
        w.linear(f"am_list.{block}.fc.4", hidden, 2 * c)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        w.conv(name, c, c, 3)
    w.conv("conv_last", c, 3, 3)
    return w


def mmrealsr(w: State, lq: Tensor, degrees: Tensor | None = None) -> dict[str, Tensor]:
    """``degrees``, N x 2, replace the estimated ones."""
    if degrees is None:
        degrees = torch.cat([_degree(w, degree, lq) for degree in range(2)], dim=1)
    guide = relu(dense(w, "dd_embed.0", degrees))

    def steep(x: Tensor) -> Tensor:
        return leaky_relu(x, 0.2)

    def dense_block(name: str, x: Tensor) -> Tensor:
        features = [x]
        for i in range(1, 5):
            features.append(steep(conv(w, f"{name}.conv{i}", torch.cat(features, dim=1))))
        return x + 0.2 * conv(w, f"{name}.conv5", torch.cat(features, dim=1))

    x = head = conv(w, "conv_first", lq)
    for block in range(count(w, r"body\.(\d+)\.rdb1\.conv1\.weight")):
        y = x
        for i in (1, 2, 3):
            y = dense_block(f"body.{block}.rdb{i}", y)
        x = x + 0.2 * y
        numbers = dense(w, f"am_list.{block}.fc.4", relu(perceptron(w, f"am_list.{block}.fc", guide, relu)))
        gamma, beta = numbers[:, :, None, None].tensor_split(2, dim=1)
        x = (1 + gamma) * x + beta
    x = head + conv(w, "conv_body", x)
    for name in ("conv_up1", "conv_up2"):
        x = steep(conv(w, name, x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)))
    return {"degrees": degrees, "sr": conv(w, "conv_last", steep(conv(w, "conv_hr", x)))}


def _degree(w: State, degree: int, lq: Tensor) -> Tensor:
    """Return one degree of degradation, N x 1."""
    x = conv(w, f"de_net.conv_first.{degree}", lq)
    for layer in range(1 + count(w, rf"de_net\.body\.{degree}\.(\d+)\.conv1\.weight")):
        name = f"de_net.body.{degree}.{layer}"
        if f"{name}.weight" in w:
            x = conv(w, name, x, stride=2)
        else:
            x = x + conv(w, f"{name}.conv2", relu(conv(w, f"{name}.conv1", x)))
    return perceptron(w, f"de_net.fc_degree.{degree}", x.mean(dim=(2, 3)), relu).sigmoid()


# ------------------------------------------------------------------------------------------ SRMD

SRMD_LAYERS = 4


def srmd_weights(scale: int) -> Weights:
    w = Weights(seed=60 + scale)
    widths = (3 + IDR, *[CHANNELS] * (SRMD_LAYERS - 1), 3 * scale**2)
    for layer in range(SRMD_LAYERS):
        w.conv(f"model.{2 * layer}", widths[layer], widths[layer + 1], 3)
    return w


def srmd(w: State, lq: Tensor, idr: Tensor) -> dict[str, Tensor]:
    """``idr``, N x D, is what is known of the degradation; it becomes constant maps, after the image."""
    x = torch.cat([lq, idr[:, :, None, None] * torch.ones(1, 1, *lq.shape[2:])], dim=1)
    for layer in range(SRMD_LAYERS - 1):
        x = relu(conv(w, f"model.{2 * layer}", x))
    x = conv(w, f"model.{2 * SRMD_LAYERS - 2}", x)
    return {"sr": pixel_shuffle(x, round((x.shape[1] / 3) ** 0.5))}
