"""The RGB mean that the published restorers subtract from their input and add to their output."""

import torch
from torch import nn

# Mean of the DIV2K training images, on the 0-1 scale.
RGB_MEAN = (0.4488, 0.4371, 0.4040)
# Mean of the DF2K training images (DIV2K and Flickr2K), on the 0-1 scale.
DF2K_MEAN = (0.4680, 0.4484, 0.4029)


class RGBMean(nn.Module):
    """Holds the mean, 1 x C x 1 x 1, as a constant that moves with the network and is not saved with it.

    Args:
        num_ch: channels of the image. For images other than RGB, the mean is zero.
        rgb: the mean of RGB images, in [0, 1].
    """

    mean: torch.Tensor

    def __init__(self, num_ch: int = 3, rgb: tuple[float, ...] = RGB_MEAN) -> None:
        super().__init__()
        mean = torch.tensor(rgb) if num_ch == len(rgb) else torch.zeros(num_ch)
        self.register_buffer("mean", mean.view(1, num_ch, 1, 1), persistent=False)

    def subtract(self, image: torch.Tensor) -> torch.Tensor:
        return image - self.mean

    def add(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.mean
