"""Small random networks of every kind."""

import torch

from lightbsr_arch.archs import BlindSR

# With PyTorch's initialisation, outputs stay in the range of images.
KDIDE = {"type": "KDIDEStudent", "num_feat": 16, "num_block": 2, "init": "pytorch"}
LIGHTIDE = {"type": "LightIDEStudent", "num_feat": 4, "init": "pytorch"}
IDRDCRBNET = {"type": "IDRDCRBNet", "num_feat": 16, "num_block": 5}
LIGHTBSRNET = {"type": "LightBSRNet", "num_feat": 16, "num_group": 2, "num_block": 2, "idr_ch": 16}
PAIRS = {
    "kdsr": (KDIDE, IDRDCRBNET),
    "lightbsr": (LIGHTIDE, LIGHTBSRNET),
    "a vector guides LightBSRNet": (KDIDE, LIGHTBSRNET),
    "a map guides IDRDCRBNet": (LIGHTIDE, IDRDCRBNET),
}


def network(pair: str, scale: int = 4, num_block: int | None = None, **of_estimator: float) -> BlindSR:
    """Return a network in which every part affects the output. The IDRs of KDIDE have a norm of 2.8.

    Args:
        num_block: blocks of the restorer, or of each of its groups, instead of those above.
    """
    torch.manual_seed(0)
    estimator, restorer = PAIRS[pair]
    if num_block is not None:
        restorer = {**restorer, "num_block": num_block}
    model = BlindSR({**estimator, **of_estimator}, {**restorer, "scale": scale}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_scale"):
                parameter.normal_()  # at the initial 1e-6, the residual of a block hardly affects the output
            if "to_idr" in name or "to_channel_guide" in name:
                parameter.mul_(10)  # otherwise the IDR hardly affects the output
    return model
