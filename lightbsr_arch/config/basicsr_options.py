"""Options of BasicSR's own data sets and Real-ESRGAN models, whose classes do not describe them."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, defstruct

from lightbsr_arch.option_types import Count, IoBackend, LoaderOptions, PerChannel, Pieces, Probability, Range
from lightbsr_arch.option_types.schema import BasicSROptions, Options


class BasicSRDatasetOptions(LoaderOptions, kw_only=True):
    """Keys that several of BasicSR's own data sets read."""

    io_backend: Annotated[IoBackend, Meta(description="how the images are read")]
    mean: Annotated[PerChannel | None, Meta(description="subtracted from images in [0, 1], by channel")] = None
    std: Annotated[PerChannel | None, Meta(description="divides images after the mean, by channel")] = None
    gt_size: Annotated[Count | UnsetType, Meta(description="side of the training crop in HR pixels")] = UNSET
    use_hflip: Annotated[bool | UnsetType, Meta(description="flip training crops at random")] = UNSET
    use_rot: Annotated[bool | UnsetType, Meta(description="rotate training crops by random multiples of 90°")] = UNSET
    use_shuffle: Annotated[bool | UnsetType, Meta(description="not used; many BasicSR files have it")] = UNSET


class PairedImageDatasetOptions(BasicSRDatasetOptions, kw_only=True):
    """BasicSR's PairedImageDataset and RealESRGANPairedDataset: LR and HR images in pairs."""

    dataroot_gt: Annotated[str, Meta(description="high-resolution images: a folder, or NAME.lmdb")]
    dataroot_lq: Annotated[str, Meta(description="low-resolution images: a folder, or NAME.lmdb")]
    filename_tmpl: Annotated[str, Meta(description="LR file name, such as `{}x4`; `{}` is the HR name")] = "{}"
    meta_info_file: Annotated[str | None, Meta(description="text file with one image name per line")] = None
    meta_info: Annotated[str | None, Meta(description="RealESRGANPairedDataset: text file of path pairs")] = None
    color: Annotated[str | None, Meta(description="y: only the luma channel")] = None


class SingleImageDatasetOptions(BasicSRDatasetOptions, kw_only=True):
    """BasicSR's SingleImageDataset: LR images without HR, for testing."""

    dataroot_lq: Annotated[str, Meta(description="low-resolution images: a folder, or NAME.lmdb")]
    meta_info_file: Annotated[str | UnsetType, Meta(description="text file with one image name per line")] = UNSET
    color: Annotated[str | None, Meta(description="y: only the luma channel")] = None


class FFHQDatasetOptions(BasicSRDatasetOptions, kw_only=True):
    """BasicSR's FFHQDataset: faces for StyleGAN2."""

    dataroot_gt: Annotated[str, Meta(description="face images: a folder, or NAME.lmdb")]
    mean: Annotated[PerChannel, Meta(description="subtracted from images in [0, 1], by channel")]
    std: Annotated[PerChannel, Meta(description="divides images after the mean, by channel")]
    use_hflip: Annotated[bool, Meta(description="flip at random")]


def _both_rounds(options: dict[str, tuple[Any, str]], *default: Any) -> list[tuple[Any, ...]]:
    """Return the fields of a second-order degradation, whose second round has the same options with a 2 appended."""
    return [
        (name + ending, Annotated[type_, Meta(description=text + note)], *default)
        for ending, note in (("", ""), ("2", ", second round"))
        for name, (type_, text) in options.items()
    ]


class _RealESRGANDataset(BasicSRDatasetOptions, kw_only=True):
    dataroot_gt: Annotated[str, Meta(description="high-resolution images: a folder, or NAME.lmdb")]
    meta_info: Annotated[str | UnsetType, Meta(description="text file naming the images; disk needs it")] = UNSET
    use_hflip: Annotated[bool, Meta(description="flip at random")]
    use_rot: Annotated[bool, Meta(description="rotate by random multiples of 90°")]
    final_sinc_prob: Annotated[Probability, Meta(description="probability of a sinc filter at the end")]


RealESRGANDatasetOptions: type[LoaderOptions] = defstruct(  # type: ignore[assignment]
    "RealESRGANDatasetOptions",
    _both_rounds(
        {
            "blur_kernel_size": (Count, "side of the blur kernels in pixels"),
            "kernel_list": (list[str], "kernel shapes to draw from"),
            "kernel_prob": (list[Probability], "probability of each shape"),
            "sinc_prob": (Probability, "probability of a sinc filter instead"),
            "blur_sigma": (Range, "range of the blur's sigma in pixels"),
            "betag_range": (Range, "range of beta for generalised Gaussian kernels"),
            "betap_range": (Range, "range of beta for plateau kernels"),
        }
    ),
    bases=(_RealESRGANDataset,),
    kw_only=True,
    namespace={"__doc__": "BasicSR's RealESRGANDataset: HR images and the blur kernels of a second-order degradation."},
)


class _RealESRGAN(BasicSROptions, kw_only=True):
    queue_size: Annotated[Pieces, Meta(description="images kept to mix degradations in a batch")] = 180
    high_order_degradation: Annotated[bool, Meta(description="degrade on the fly; false: pairs")] = True
    gt_size: Annotated[Count | UnsetType, Meta(description="side of the training crop in HR pixels")] = UNSET
    gt_usm: Annotated[bool | UnsetType, Meta(description="RealESRNetModel: sharpen HR")] = UNSET
    l1_gt_usm: Annotated[bool | UnsetType, Meta(description="RealESRGANModel: sharpen HR for the L1 loss")] = UNSET
    percep_gt_usm: Annotated[bool | UnsetType, Meta(description="sharpen HR for the perceptual loss")] = UNSET
    gan_gt_usm: Annotated[bool | UnsetType, Meta(description="sharpen HR for the GAN loss")] = UNSET
    second_blur_prob: Annotated[Probability | UnsetType, Meta(description="probability of a second blur")] = UNSET


RealESRGANOptions: type[Options] = defstruct(  # type: ignore[assignment]
    "RealESRGANOptions",
    _both_rounds(
        {
            "resize_prob": (list[Probability] | UnsetType, "probabilities of up, down, keep"),
            "resize_range": (Range | UnsetType, "range of the resize factor"),
            "gaussian_noise_prob": (Probability | UnsetType, "probability of Gaussian noise; otherwise Poisson noise"),
            "noise_range": (Range | UnsetType, "noise level on the 0-255 scale"),
            "poisson_scale_range": (Range | UnsetType, "Poisson noise factor"),
            "gray_noise_prob": (Probability | UnsetType, "probability of grey noise"),
            "jpeg_range": (Range | UnsetType, "JPEG quality"),
        },
        UNSET,
    ),
    bases=(_RealESRGAN,),
    kw_only=True,
    namespace={"__doc__": "One run of RealESRNetModel or RealESRGANModel, with the degradation on the top level."},
)

DATASETS: dict[str, type[LoaderOptions]] = {
    "PairedImageDataset": PairedImageDatasetOptions,
    "RealESRGANPairedDataset": PairedImageDatasetOptions,
    "SingleImageDataset": SingleImageDatasetOptions,
    "FFHQDataset": FFHQDatasetOptions,
    "RealESRGANDataset": RealESRGANDatasetOptions,
}
MODELS: dict[str, type[Options]] = {
    "SRModel": BasicSROptions,
    "SRGANModel": BasicSROptions,
    "ESRGANModel": BasicSROptions,
    "SwinIRModel": BasicSROptions,
    "RealESRNetModel": RealESRGANOptions,
    "RealESRGANModel": RealESRGANOptions,
}
