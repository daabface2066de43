"""Does the IDR tell how blurred a photo is? 5-nearest-neighbour accuracy over Gaussian8's sigmas on unseen photos.

    python benchmarks/idr_neighbours.py MODEL... --photos DIR

Each photo is cut into overlapping crops, each crop degraded with every sigma. A crop's sigma is voted by the five
nearest IDR vectors (Euclidean distance) of crops of *other* photos, so that content cannot help. Chance is 1/8.
"""

import argparse
from pathlib import Path

import torch
from machine import describe

import lightbsr_arch
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.degradations import Parameters, Setting, named_settings
from lightbsr_arch.degradations.classical import degrade

NEIGHBOURS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="weights of a student, by name or path")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos that no training saw")
    parser.add_argument("--crop", type=int, default=128, help="side of the ground-truth crops, which overlap by half")
    args = parser.parse_args()
    crops, photo = cut(GTSource(str(args.photos), "disk"), args.crop)
    print(f"machine: {describe('torch')}")
    print(f"data: {len(crops)} crops of {int(photo.max()) + 1} photos, {args.crop}x{args.crop} pixels; chance 12.5 %")
    for name in args.models:
        model = lightbsr_arch.load(name)
        settings = named_settings("gaussian8", model.scale)
        vectors = torch.cat([read(model, degrade(crops, each_alike(s, len(crops)), model.scale)) for s in settings])
        sigma = torch.arange(len(settings)).repeat_interleave(len(crops))
        accuracy = neighbour_accuracy(vectors, sigma, photo.repeat(len(settings)))
        print(f"{name}: {100 * accuracy:.1f} % of {len(vectors)}")


def cut(source: GTSource, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops, M x 3 x size x size, and the number of the photo that each is of."""
    crops, photo = [], []
    for index in range(len(source)):
        height, width = source.shape(index)
        for top in range(0, height - size + 1, size // 2):
            for left in range(0, width - size + 1, size // 2):
                crops.append(to_tensor(source.read_crop(index, top, left, size)))
                photo.append(index)
    return torch.stack(crops), torch.tensor(photo)


def each_alike(setting: Setting, n: int) -> Parameters:
    """The parameters of a setting for a batch of n."""
    return Parameters(*(one.expand(n, *one.shape[1:]) for one in setting.parameters()))


@torch.inference_mode()
def read(model: lightbsr_arch.archs.BlindSR, lq: torch.Tensor) -> torch.Tensor:
    return as_vector(model.estimator.estimate(lq)[0])


def neighbour_accuracy(vectors: torch.Tensor, label: torch.Tensor, photo: torch.Tensor) -> float:
    distance = torch.cdist(vectors, vectors)
    distance[photo[:, None] == photo[None]] = torch.inf
    votes = label[distance.topk(NEIGHBOURS, largest=False).indices]
    return (votes.mode(dim=1).values == label).float().mean().item()


if __name__ == "__main__":
    main()
