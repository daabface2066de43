"""Initial weights of a network with MM-RealSR's two degrees, from two trained KDSR.

    python benchmarks/start_control.py kdsr_s_x4_real kdsr_s_x4_iso options/weights/kdsr_s_x4_control.yml -o start.pth

The restorer is a weighted mean of both restorers, as in Deep Network Interpolation (CVPR 2019). The second network is
sharper, and removes no noise. The layer that converts degrees to the IDR is set from three IDRs, which the estimator of
the first network reads from the pictures of --images: clean, blurred and noisy ones. The degrees 0, 0 become the IDR of
clean pictures. The degree of blur adds a multiple of the difference between the IDRs of blurred and clean pictures, and
the degree of noise a multiple of that between noisy and clean ones. The other layers of the estimator keep their
initial weights, which the recipe trains.
"""

import argparse
import sys
from pathlib import Path

import torch
from checkpoints import write_checkpoint
from strength import ground_truth

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDCRBNet
from lightbsr_arch.archs.kdide_arch import KDIDEStudent
from lightbsr_arch.archs.mmrealsr_arch import DegreeEstimator
from lightbsr_arch.checkpoint import load
from lightbsr_arch.config.merge import read_options
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.settings import Setting

WORST_SIGMA = 4.0
WORST_NOISE = 25.0
CROP = 192
PHOTOS = Path(__file__).parents[1] / "examples/photos/train"
SHARE = 0.3
"""Share of the second network in the restorer."""
BLUR_GAIN, NOISE_GAIN = 8.0, 2.0
"""Multiples of the differences between IDRs. Sharpness still follows the degrees monotonically."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="weights of a KDSR for real photos: a shipped name or a file")
    parser.add_argument("sharper", help="weights of a KDSR of the same size for blurred pictures")
    parser.add_argument("options", type=Path, help="options file whose network_g has a DegreeEstimator")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file for the initial weights, .pth")
    parser.add_argument("--images", type=Path, default=PHOTOS, help="folder of HR pictures")
    args = parser.parse_args()
    if args.output.suffix != ".pth":
        raise UserError(f"-o {args.output}: the initial weights must be named .pth")
    trained, sharper = (_kdsr(name) for name in (args.weights, args.sharper))
    net = controlled_network(args.options)
    pictures = find_pictures([str(args.images)])
    start_from(net, trained, sharper, [ground_truth(picture.path, CROP, net.scale) for picture in pictures])
    write_checkpoint(args.output, net.state_dict())
    print(f"{args.output}: the restorers of {args.weights} and {args.sharper}; the degrees are not trained yet")
    return 0


def _kdsr(name: str) -> BlindSR:
    net = load(name)
    if not isinstance(net, BlindSR) or not isinstance(net.estimator, KDIDEStudent):
        raise UserError(f"{name}: expected a student of KDSR")
    return net


def controlled_network(options: Path) -> BlindSR:
    """Build the ``network_g`` of an options file, with the same random weights in every call.

    Raises:
        UserError: the file cannot be read, or its network has other parts.
    """
    torch.manual_seed(0)
    network = read_options(options).data.get("network_g")
    try:
        net = BlindSR(network["estimator"], network["restorer"])  # type: ignore[index]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{options}: network_g cannot be built: {reason_of(error)}") from None
    if not isinstance(net.estimator, DegreeEstimator) or not isinstance(net.restorer, IDRDCRBNet):
        raise UserError(f"{options}: network_g must be a DegreeEstimator with an IDRDCRBNet")
    if net.estimator.to_idr is None or net.estimator.num_degree != 2:
        raise UserError(f"{options}: network_g.estimator needs two degrees and an idr_ch of the restorer's num_feat")
    return net


@torch.no_grad()
def start_from(net: BlindSR, trained: BlindSR, sharper: BlindSR, gts: list[torch.Tensor]) -> None:
    """Set a network's restorer, and its layer from degrees to the IDR.

    Args:
        net: the network to set.
        trained: a network with a restorer of the same size, whose estimator is used.
        sharper: a network with a restorer of the same size.
        gts: ground-truth pictures, each 1 x 3 x H x W in [0, 1].

    Raises:
        UserError: the restorers differ in size.
    """
    sizes = [{key: value.shape for key, value in one.restorer.state_dict().items()} for one in (net, trained, sharper)]
    if not sizes[0] == sizes[1] == sizes[2]:
        raise UserError("the restorers of both weights and of network_g must have the same size")
    other = sharper.restorer.state_dict()
    state = {key: torch.lerp(value, other[key], SHARE) for key, value in trained.restorer.state_dict().items()}
    net.restorer.load_state_dict(state)
    settings = Setting(sigma=0), Setting(sigma=WORST_SIGMA), Setting(sigma=0, noise=WORST_NOISE)
    clean, blurred, noisy = (mean_idr(trained, gts, setting) for setting in settings)
    axes = [BLUR_GAIN * (blurred - clean), NOISE_GAIN * (noisy - clean)]
    to_idr = net.estimator.to_idr
    to_idr.bias.copy_(clean)  # type: ignore[union-attr,operator]
    to_idr.weight.copy_(torch.stack(axes, dim=1))  # type: ignore[union-attr,operator]


def mean_idr(trained: BlindSR, gts: list[torch.Tensor], setting: Setting) -> torch.Tensor:
    """Return the mean IDR, C, that a trained estimator reads from degraded pictures."""
    idrs = []
    for i, gt in enumerate(gts):
        lq = setting.degrade(gt, trained.scale, "bicubic", Draws(torch.Generator().manual_seed(i))).lq
        idrs.append(as_vector(trained.estimator(lq))[0])
    return torch.stack(idrs).mean(dim=0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
