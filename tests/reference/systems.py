"""The published systems with small random weights: their plain versions, inputs, and the package's description."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.reference import family, kdsr, lightbsr
from tests.reference.weights import Weights

RECORDED = Path(__file__).with_name("recorded.safetensors")

Outputs = dict[str, torch.Tensor]


class System(NamedTuple):
    """A published system.

    Attributes:
        weights: makes weights under the published names for a scale.
        plain: the plain version, a function of weights, low-quality images and the extra input.
        network: the arguments with which the package rebuilds the network for a scale; None for a restorer only.
        knowledge: names of the plain outputs by the names of the package's knowledge.
        idr: name of the plain output that is the estimator's.
        extra: name of the extra input.
        scales: the scales of the published networks; the first one is recorded.
    """

    weights: Callable[[int], Weights]
    plain: Callable[..., Outputs]
    network: Callable[[int], dict[str, Any]] | None
    knowledge: dict[str, str]
    idr: str | None = "idr"
    extra: str | None = None
    scales: tuple[int, ...] = (2, 3, 4)

    def outputs(self, scale: int) -> Outputs:
        """Outputs of the plain version."""
        lq, *extra = self.inputs(scale)
        return self.plain(self.weights(scale), lq, *extra)

    def inputs(self, scale: int) -> list[torch.Tensor]:
        """Low-quality images whose sides 4 does not divide, and the extra input, unrelated to them."""
        random = np.random.RandomState(0)
        made = {"lq": random.rand(2, 3, 9, 14), "gt": random.rand(2, 3, 9 * scale, 14 * scale)}
        made |= {"prior": random.randn(2, lightbsr.PRIOR), "known": random.randn(2, family.IDR)}
        return [torch.from_numpy(made[name]).float() for name in ("lq", self.extra) if name]


def _kdsr(scale: int, teacher: bool) -> dict[str, Any]:
    return {
        "estimator": {
            "type": "KDIDETeacher" if teacher else "KDIDEStudent",
            "num_feat": kdsr.CHANNELS,
            "num_block": kdsr.ESTIMATOR_BLOCKS,
            **({"scale": scale} if teacher else {}),
        },
        "restorer": {"type": "IDRDCRBNet", "num_feat": kdsr.CHANNELS, "num_block": kdsr.BLOCKS, "scale": scale},
    }


def _lightbsr(scale: int, teacher: bool) -> dict[str, Any]:
    prior = {"num_kernel_ch": 15, "num_noise_ch": 3, "kernel_size": 21} if teacher else {}
    return {
        "estimator": {
            "type": "LightIDETeacher" if teacher else "LightIDEStudent",
            "num_feat": lightbsr.WIDTH,
            **prior,
        },
        "restorer": {
            "type": "LightBSRNet",
            "num_feat": lightbsr.CHANNELS,
            "num_group": lightbsr.GROUPS,
            "num_block": lightbsr.BLOCKS,
            "idr_ch": lightbsr.IDR,
            "scale": scale,
        },
    }


def _family(scale: int, estimator: dict[str, Any], **restorer: Any) -> dict[str, Any]:
    return {"estimator": estimator, "restorer": {"num_feat": family.CHANNELS, **restorer, "scale": scale}}


_GUIDES = {"channel_guide": "idr_channel", "spatial_guide": "idr_spatial"}
_GROUPS = {"num_group": family.GROUPS, "num_block": family.BLOCKS}
_DEGREES = {"type": "DegreeEstimator", "num_feat": 4, "num_block": 1, "num_hidden": 5, "num_degree": 2, "idr_ch": 2}

SYSTEMS = {
    **{
        f"kdsr {role}": System(
            partial(kdsr.weights, teacher=teacher),
            kdsr.outputs,
            partial(_kdsr, teacher=teacher),
            {"idr": "distill"},
            extra="gt" if teacher else None,
        )
        for role, teacher in (("student", False), ("teacher", True))
    },
    "lightbsr student": System(
        partial(lightbsr.weights, teacher=False),
        lightbsr.outputs,
        partial(_lightbsr, teacher=False),
        _GUIDES,
        idr="fea",
    ),
    "lightbsr teacher": System(
        partial(lightbsr.weights, teacher=True),
        lightbsr.outputs,
        partial(_lightbsr, teacher=True),
        {**_GUIDES, "embedding": "embedding"},
        idr="fea",
        extra="prior",
    ),
    "dasr": System(
        family.dasr_weights,
        family.dasr,
        partial(
            _family, estimator={"type": "DASREncoder", "num_feat": 4}, type="DASRNet", **_GROUPS, idr_ch=family.IDR
        ),
        {"idr": "idr", "embedding": "embedding"},
    ),
    "cdcl": System(
        family.cdcl_weights,
        family.cdcl,
        partial(
            _family, estimator={"type": "CdCLEncoder", "num_feat": 8}, type="CdCLNet", **_GROUPS, idr_ch=2 * family.IDR
        ),
        {"idr": "idr_vector"},
    ),
    "mrda": System(
        family.mrda_weights,
        family.mrda,
        partial(
            _family,
            estimator={"type": "MRDAEncoder", "num_feat": 4},
            type="RDANet",
            num_block=family.BLOCKS,
            idr_ch=family.IDR,
        ),
        {"idr": "idr"},
    ),
    "mmrealsr": System(
        family.mmrealsr_weights,
        family.mmrealsr,
        partial(
            _family,
            estimator=_DEGREES,
            type="MMRealSRNet",
            num_feat=4,
            num_block=family.BLOCKS,
            num_grow_ch=3,
            num_embed=6,
            num_hidden=5,
            idr_ch=2,
        ),
        {"degrees": "degrees"},
        idr="degrees",
        scales=(4,),
    ),
    "srmd": System(family.srmd_weights, family.srmd, None, {}, idr=None, extra="known"),
}
