"""Initial weights of a larger network, or of another scale, from those of a trained one.

    python benchmarks/grow_weights.py kdsr_s_x4_iso options/weights/kdsr_s_x2_iso.yml -o start.pth

The channels of the small network become the first channels of the larger one. The weights from new channels to old ones
are zero (Net2Net, ICLR 2016, uses copies instead), and so are the weights of the last layer of each additional block
and the new entries of the IDR, which would count towards its ``max_norm``.
The weights from old channels to new ones are PyTorch's initial ones, so that gradients reach the new channels. Both
networks then compute the same image, unless their scales differ: layers that the trained network lacks keep PyTorch's
initial weights. The script supports only KDSR, whose layers have no normalisation over channels.
"""

import argparse
import sys
from pathlib import Path

import torch
from checkpoints import write_checkpoint

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDCRBNet
from lightbsr_arch.archs.kdide_arch import KDIDEStudent
from lightbsr_arch.archs.part import State
from lightbsr_arch.checkpoint import load
from lightbsr_arch.config.merge import read_options

LQ_SIZE = 48


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="weights of the small network: a shipped name or a file")
    parser.add_argument("options", type=Path, help="options file whose network_g is the larger network")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file for the grown weights, .pth")
    args = parser.parse_args()
    if args.output.suffix != ".pth":
        raise UserError(f"-o {args.output}: the grown weights must be named .pth")
    small = _kdsr(load(args.weights), args.weights)
    large = larger_network(args.options)
    try:
        state = grown(small.state_dict(), large.state_dict())
    except ValueError as misfit:
        raise UserError(f"{args.options}: network_g is smaller than {args.weights}: {misfit}") from None
    large.load_state_dict(state)
    if large.scale == small.scale:
        difference = _difference(large, small)
        if difference > 1e-4:
            raise UserError(f"{args.options}: the network differs from {args.weights} by {difference:.1e}; expected 0")
        relation = f"differs by {difference:.1e}"
    else:
        relation = f"scale {large.scale} from {small.scale}"
    write_checkpoint(args.output, state)
    print(f"{args.output}: {_millions(large):.2f} M parameters from {_millions(small):.2f} M, {relation}")
    return 0


def _difference(large: BlindSR, small: BlindSR) -> float:
    """Return the largest difference between the images of two networks of the same scale."""
    lq = torch.rand(2, 3, LQ_SIZE, LQ_SIZE)
    with torch.no_grad():
        return (large(lq) - small(lq)).abs().max().item()


def larger_network(options: Path) -> BlindSR:
    """Build the ``network_g`` of an options file, with the same random weights in every call.

    Raises:
        UserError: the file cannot be read, or it has no such network of KDSR.
    """
    torch.manual_seed(0)
    network = read_options(options).data.get("network_g")
    if not isinstance(network, dict) or network.get("type") != "BlindSR":
        raise UserError(f"{options}: expected a network_g of type BlindSR")
    try:
        large = BlindSR(**{key: value for key, value in network.items() if key != "type"})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{options}: network_g cannot be built: {reason_of(error)}") from None
    return _kdsr(large.eval(), str(options))


def _kdsr(network: torch.nn.Module, name: str) -> BlindSR:
    if isinstance(network, BlindSR):
        parts = type(network.estimator), type(network.restorer)
        if parts == (KDIDEStudent, IDRDCRBNet):
            return network
    raise UserError(f"{name}: expected a student of KDSR, a KDIDEStudent with an IDRDCRBNet")


def grown(small: State, large: State) -> State:
    """Return weights of the larger network. Their first rows and columns are the weights of the small network.

    Raises:
        ValueError: the larger network lacks a layer, or a layer of it is smaller.
    """
    for name, old in small.items():
        if name not in large:
            if ".upsample." in name:  # of another scale
                continue
            raise ValueError(f"it has no {name}")
        if any(size < needed for size, needed in zip(large[name].shape, old.shape, strict=True)):
            raise ValueError(f"{name} is {tuple(large[name].shape)}, less than {tuple(old.shape)}")
    state = {}
    for name, fresh in large.items():
        value = fresh.clone()
        if name in small:
            old = small[name]
            place = tuple(slice(size) for size in old.shape)
            if value.dim() > 1:
                value[: old.shape[0]] = 0
            value[place] = old
            if name.startswith("estimator.to_idr."):
                value[old.shape[0] :] = 0
        elif name.endswith("conv.weight") or name.endswith("conv.bias"):
            value.zero_()
        state[name] = value
    return state


def _millions(net: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in net.parameters()) / 1e6


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
