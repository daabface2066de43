"""What LightBSR's teacher is told about the degradation: LightBSR (ICCV 2025), section 3.2."""

from typing import Any

import torch
from torch import nn

NOISE_UNIT = 25.0
"""The strongest noise of setting 2, on the 8-bit scale: its maps are all ones."""

SMALLEST_SPREAD = 0.01
"""Of a PCA's number, against the first one's; below it, dividing by the spread would magnify rounding."""


class DegradationPrior(nn.Module):
    """Blur kernels as a few numbers by principal component analysis (PCA), and noise levels.

    Each number is divided by its spread among the kernels of the fit. Without that they hardly differ between the wide
    blurs, sigma 2 or 3, that matter most: nearly all of the variance is between narrow ones.

    Mean and components are buffers, so that they are saved with the network: a student, or a resumed run, needs the
    very same ones. They are NaN until ``fit`` or a checkpoint sets them.

    Args:
        num_kernel_ch: numbers that a kernel becomes; 0 leaves it out.
        num_noise_ch: times that the noise level is repeated beside them; 0 leaves it out.
        kernel_size: side of the kernels.
    """

    mean: torch.Tensor
    components: torch.Tensor

    def __init__(self, num_kernel_ch: int, num_noise_ch: int, kernel_size: int) -> None:
        super().__init__()
        self.num_noise_ch = num_noise_ch
        self.register_buffer("mean", torch.full((kernel_size**2,), torch.nan))
        self.register_buffer("components", torch.full((num_kernel_ch, kernel_size**2), torch.nan))

    @property
    def num_ch(self) -> int:
        return len(self.components) + self.num_noise_ch

    @property
    def fitted(self) -> bool:
        return not bool(self.mean[0].isnan())

    def fit(self, kernels: torch.Tensor) -> None:
        """Set mean and components from sampled kernels, M x K x K; the same on every machine but for rounding."""
        flat = kernels.flatten(1).to("cpu", torch.float64)
        mean = flat.mean(dim=0)
        variances, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
        components = vectors.T.flip(0)[: len(self.components)]  # eigh gives the largest last
        spread = variances.flip(0)[: len(self.components), None].clamp(min=0).sqrt()
        spread = spread.clamp(min=SMALLEST_SPREAD * spread[:1])
        # An eigenvector's sign is arbitrary.
        sign = components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.components.copy_(components * sign / spread)

    def forward(self, privileged: Any) -> torch.Tensor:
        """The prior, N x ``num_ch``.

        Args:
            privileged: blur kernels, N x K x K, and noise levels on the 8-bit scale, N, as a pair; or the prior itself.
        """
        if isinstance(privileged, torch.Tensor):
            if privileged.dim() != 2 or privileged.shape[1] != self.num_ch:
                raise ValueError(f"the prior is N x {self.num_ch}, not {tuple(privileged.shape)}")
            return privileged
        if not torch.compiler.is_compiling() and not self.fitted:
            raise ValueError("the PCA of blur kernels is not fitted: the checkpoint holds none, and no training ran")
        kernel, noise = privileged
        numbers = (kernel.flatten(1).to(self.mean) - self.mean) @ self.components.T
        if not self.num_noise_ch:
            return numbers
        levels = (noise / NOISE_UNIT)[:, None].expand(-1, self.num_noise_ch)
        return torch.cat([numbers, levels.to(numbers)], dim=1)
