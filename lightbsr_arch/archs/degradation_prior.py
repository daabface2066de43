"""The degradation prior of LightBSR's teacher, which describes a degradation by numbers (LightBSR, section 3.2)."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Arguments, Estimator, State
from lightbsr_arch.degradations.kernels import gaussian_kernels

PriorForm = Literal["standardised", "published"]

NOISE_UNIT: dict[PriorForm, float] = {"standardised": 25.0, "published": 1.0}
"""Noise level, on the 8-bit scale, whose value in the maps is 1. It is the strongest noise of setting 2."""

SMALLEST_SPREAD = 0.01
"""Smallest spread of a component relative to the first. Division by a smaller spread would amplify rounding errors."""

PCA_KERNELS = 10_000  # sampled for a teacher's PCA
PUBLISHED_KERNELS = 5000
PUBLISHED_VARIANCES = (0.1, 10.1)


class DegradationPrior(nn.Module):
    """Describes blur kernels by a few numbers from a principal component analysis (PCA), and noise levels.

    In the form "standardised", the default, kernels are centred before the PCA. Each number is divided by its standard
    deviation over the kernels of the fit, and noise levels are divided by 25. The reason is that nearly all variance is
    between narrow blurs. Without the division, the numbers would hardly differ between wide blurs (sigma 2 or 3), which
    matter most.

    In the form "published", the numbers are those of the authors' code. The PCA is uncentred, and fitted to 5000
    anisotropic Gaussian kernels with variances up to 10, whatever the degradation of the training. The numbers are not
    divided by their spread, the component with the largest variance is the last, and noise levels are 0 to 25.

    Mean and components are buffers and are saved with the network, because a student or a resumed run needs the same
    values. They are NaN until ``fit``, ``set_published`` or a checkpoint sets them.

    Args:
        num_kernel_ch: number of values that describe a kernel; 0 leaves the kernel out.
        num_noise_ch: number of repetitions of the noise level; 0 leaves it out.
        kernel_size: side of the kernels.
        form: "standardised" or "published".
    """

    mean: torch.Tensor
    components: torch.Tensor

    def __init__(
        self, num_kernel_ch: int, num_noise_ch: int, kernel_size: int, form: PriorForm = "standardised"
    ) -> None:
        super().__init__()
        self.num_noise_ch = num_noise_ch
        self.kernel_size = kernel_size
        self.form = form
        self._seen_fitted = False
        self.register_buffer("mean", torch.full((kernel_size**2,), torch.nan))
        self.register_buffer("components", torch.full((num_kernel_ch, kernel_size**2), torch.nan))

    @property
    def num_ch(self) -> int:
        return len(self.components) + self.num_noise_ch

    @property
    def fitted(self) -> bool:
        """Return whether the PCA is set. Once it is, the host does not wait for the device again."""
        self._seen_fitted = self._seen_fitted or not bool(self.mean[0].isnan())
        return self._seen_fitted

    def fit(self, kernels: torch.Tensor) -> None:
        """Compute mean and components from sampled kernels, M x K x K."""
        flat = kernels.flatten(1).to("cpu", torch.float64)
        if self.form == "published":
            self.mean.zero_()
            self.components.copy_(_principal_components(flat, len(self.components))[0].flip(0))
            return
        mean = flat.mean(dim=0)
        components, variances = _principal_components(flat - mean, len(self.components))
        spread = variances[:, None].clamp(min=0).sqrt()
        spread = spread.clamp(min=SMALLEST_SPREAD * spread[:1])
        self.mean.copy_(mean)
        self.components.copy_(components / spread)

    def set_published(self, pca: torch.Tensor) -> None:
        """Set the authors' PCA.

        Args:
            pca: K*K x num_kernel_ch, or its transpose.

        Raises:
            UserError: the matrix has another shape.
        """
        wanted = tuple(self.components.shape)
        if tuple(pca.shape) == wanted[::-1]:
            pca = pca.T
        if tuple(pca.shape) != wanted:
            raise UserError(f"the PCA of blur kernels has shape {tuple(pca.shape)}, expected {wanted[::-1]}")
        self.mean.zero_()
        self.components.copy_(pca)

    def forward(self, degradation: Any) -> torch.Tensor:
        """Return the prior, N x ``num_ch``.

        Args:
            degradation: blur kernels, N x K x K, and noise levels on the 8-bit scale, N, as a pair; or the prior.
        """
        if isinstance(degradation, torch.Tensor):
            if degradation.dim() != 2 or degradation.shape[1] != self.num_ch:
                raise ValueError(f"the prior is N x {self.num_ch}, not {tuple(degradation.shape)}")
            return degradation
        if not torch.compiler.is_compiling() and not self.fitted:
            raise ValueError("the PCA of blur kernels is not fitted: the checkpoint holds none, and no training ran")
        kernel, noise = degradation
        numbers: torch.Tensor = (kernel.flatten(1).to(self.mean) - self.mean) @ self.components.T
        if not self.num_noise_ch:
            return numbers
        levels = (noise / NOISE_UNIT[self.form])[:, None].expand(-1, self.num_noise_ch)
        return torch.cat([numbers, levels.to(numbers)], dim=1)


class KnowsPrior(Estimator):
    """An estimator whose extra input is the degradation. Its ``prior`` converts the degradation to numbers."""

    extra_input = "prior"
    kept_apart = ("prior.mean", "prior.components")
    may_be_zero = ("num_kernel_ch", "num_noise_ch")
    prior: DegradationPrior

    @classmethod
    def with_pca(cls, arguments: Arguments, pca: torch.Tensor) -> tuple[Arguments, State]:
        arguments = {**arguments, "prior": "published"}
        prior = cls(**arguments).prior
        prior.set_published(pca)
        return arguments, {f"prior.{key}": value for key, value in prior.state_dict().items()}

    def missing(self) -> str | None:
        if self.prior.fitted:
            return None
        return (
            "holds no PCA of blur kernels, with which its estimator was trained; the authors keep it in another file: "
            "lightbsr convert SRC DST.safetensors --pca FILE"
        )

    def fit(self, sample: Callable[[int], torch.Tensor], generator: torch.Generator) -> int:
        """Fit the PCA to kernels of the training's degradation or, with ``prior: published``, like the authors'."""
        is_published = self.prior.form == "published"
        kernels = published_kernels(self.prior.kernel_size, generator) if is_published else sample(PCA_KERNELS)
        self.prior.fit(kernels)
        return len(kernels)


def published_kernels(kernel_size: int, generator: torch.Generator) -> torch.Tensor:
    """Draw kernels like those of the authors' PCA, 5000 x K x K, on the CPU.

    The variance along one axis is uniform in (0.1, 10.1). The variance along the other is uniform between 0.1 and the
    first. The paper does not state this distribution. The cosine of the largest angle between the subspaces of the
    resulting PCA and of the authors' PCA is 0.98.
    """
    low, high = PUBLISHED_VARIANCES
    first, second, angle = torch.rand((3, PUBLISHED_KERNELS), generator=generator)
    first = low + (high - low) * first
    second = low + (first - low) * second
    return gaussian_kernels(first.sqrt(), second.sqrt(), math.pi * angle, kernel_size)


def _principal_components(rows: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return principal components, number x D, and the variances along them, the largest first."""
    variances, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    components = vectors.T.flip(0)[:number]  # eigh returns the largest last
    # An eigenvector's sign is arbitrary.
    sign = components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
    return components * sign, variances.flip(0)[:number]
