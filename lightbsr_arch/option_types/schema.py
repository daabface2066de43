"""The valid options as types, from which the check, ``options/schema.json`` and ``docs/options.md`` are derived.

The arguments of registered classes are derived from their signatures (``signatures.py``). Rules that involve several
options are in ``checks/``.

A section with one of the kinds below names a registered class with ``type``. Its other keys are arguments of this
class. An optional key without a default is ``UNSET``, because a missing key differs from ``null``.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lightbsr_arch.option_types import (
    Count,
    Dataset,
    LoaderOptions,
    Loss,
    Metric,
    Network,
    Optimizer,
    Port,
    Positive,
    Processes,
    Range,
    Scheduler,
    Seed,
    Steps,
)


class OpenDatasetOptions(LoaderOptions, kw_only=True, forbid_unknown_fields=False):
    """BasicSR's video data sets and those of other plug-ins, which may read further keys."""


class OptimizerOptions(Struct, kw_only=True):
    """An optimiser and its arguments.

    The defaults are Adam's. ConvMuon has `betas: [0.9, 0.99]` and `momentum: 0.95`, and no `weight_decay`. BasicSR's
    own models accept only Adam.
    """

    type: Annotated[str, Meta(description="Adam, another class of torch.optim, or ConvMuon (lightbsr_arch.optim)")]
    lr: Annotated[Positive, Meta(description="learning rate")]
    betas: Annotated[Range, Meta(description="decay of the running averages")] = (0.9, 0.999)
    eps: Annotated[Positive, Meta(description="added to the denominator")] = 1e-8
    weight_decay: Annotated[float, Meta(ge=0, description="L2 penalty")] = 0


class PathOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Initial weights. Paths are relative to the folder in which the command runs. `~` means none."""

    pretrain_network_g: Annotated[str | None, Meta(description="initial weights of network_g")] = None
    param_key_g: Annotated[str | None, Meta(description="key in that file: params or params_ema")] = "params"
    strict_load_g: Annotated[bool, Meta(description="the file must have exactly the weights of the network")] = True
    resume_state: Annotated[str | None, Meta(description="training state (.state) to resume from")] = None
    ignore_resume_networks: Annotated[
        list[str] | str | None, Meta(description="networks whose pretrained path is not changed by a resume")
    ] = None


class GanPathOptions(PathOptions, kw_only=True):
    """Initial weights, including the discriminator's."""

    pretrain_network_d: Annotated[str | None, Meta(description="initial weights of network_d")] = None
    param_key_d: Annotated[str | None, Meta(description="key in that file")] = "params"
    strict_load_d: Annotated[bool, Meta(description="the file must have exactly the weights of the network")] = True


class OpenPathOptions(GanPathOptions, kw_only=True, forbid_unknown_fields=False):
    """Initial weights of other models, which may have more networks."""


class TrainOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Training: schedule and losses. Losses that are left out, or `null`, are not used."""

    total_iter: Annotated[Steps, Meta(description="steps of the whole run")]
    warmup_iter: Annotated[float, Meta(ge=-1, multiple_of=1, description="steps of linear warm-up; -1 for none")] = -1
    ema_decay: Annotated[float, Meta(ge=0, lt=1, description="moving average of weights; 0 for none")] = 0
    optim_g: Annotated[Optimizer, Meta(description="optimiser of network_g")]
    scheduler: Annotated[Scheduler, Meta(description="learning rate over the run")]
    pixel_opt: Annotated[Loss | None, Meta(description="loss between SR and HR pixels")] = None
    perceptual_opt: Annotated[Loss | None, Meta(description="loss between features of SR and HR")] = None


class GanTrainOptions(TrainOptions, kw_only=True):
    """Schedule and losses, including the keys of a GAN."""

    optim_d: Annotated[Optimizer | UnsetType, Meta(description="optimiser of network_d")] = UNSET
    gan_opt: Annotated[Loss | None, Meta(description="adversarial loss; needs network_d")] = None
    net_d_iters: Annotated[Steps, Meta(description="number of steps per update of network_g")] = 1
    net_d_init_iters: Annotated[
        float, Meta(ge=0, multiple_of=1, description="number of first steps that train only network_d")
    ] = 0


class BasicSRTrainOptions(GanTrainOptions, kw_only=True):
    """Schedule and losses, including the key of BasicSR's SRGANModel."""

    ldl_opt: Annotated[Loss | None, Meta(description="locally discriminative loss")] = None


class OpenTrainOptions(GanTrainOptions, kw_only=True, forbid_unknown_fields=False):
    """BasicSR's face, StyleGAN2 and video models and those of other plug-ins, which may read further keys."""


class ValOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Validation and testing."""

    val_freq: Annotated[Steps | UnsetType, Meta(description="steps between validations; training needs it")] = UNSET
    save_img: Annotated[bool, Meta(description="write the SR images")]
    suffix: Annotated[str | UnsetType | None, Meta(description="end of their names; null: the run's name")] = UNSET
    pbar: Annotated[bool, Meta(description="progress bar")] = False
    metrics: Annotated[dict[str, Metric] | None, Meta(description="name in the logs -> metric")] = None


class OpenValOptions(ValOptions, kw_only=True, forbid_unknown_fields=False):
    """Other models may read other keys too."""


class LoggerOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Logs and checkpoints, and how often they are written."""

    print_freq: Annotated[Steps, Meta(description="steps between lines of the log")]
    save_checkpoint_freq: Annotated[Steps, Meta(description="steps between checkpoints")]
    use_tb_logger: Annotated[bool, Meta(description="write TensorBoard files to tb_logger/NAME")]
    wandb: Annotated[
        dict[str, Any] | None,
        Meta(description="Weights & Biases: `project`, and `resume_id` to continue a run; needs `use_tb_logger: true`"),
    ] = None


class DistOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Passed to the start of distributed training with `--launcher slurm`."""

    backend: Annotated[Literal["nccl", "gloo", "mpi"], Meta(description="communication backend")] = "nccl"
    port: Annotated[Port | None, Meta(description="port of the first process")] = None


class Options(Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys of every run."""

    base: Annotated[str | UnsetType, Meta(description="options file whose options this file changes")] = UNSET
    name: Annotated[str, Meta(min_length=1, description="name of the run and its folder in experiments/ or results/")]
    model_type: Annotated[str, Meta(description="registered model class")]
    num_gpu: Annotated[Processes | Literal["auto"], Meta(description="number of GPUs; 0: the CPU; auto: all GPUs")]
    manual_seed: Annotated[Seed | None, Meta(description="seed of all random numbers of a run; 0 if left out")] = None
    datasets: Annotated[
        dict[str, Dataset], Meta(min_length=1, description="train, val, test; further: val_1, test_1 ...")
    ]
    network_g: Annotated[Network, Meta(description="the network that is trained or tested")]
    logger: Annotated[LoggerOptions | UnsetType, Meta(description="logs and checkpoints (training)")] = UNSET
    dist_params: Annotated[DistOptions | UnsetType, Meta(description="distributed training")] = UNSET
    find_unused_parameters: Annotated[bool, Meta(description="distributed: allow weights without gradient")] = False


class GanOptions(Options, kw_only=True):
    """Keys of a run with a discriminator."""

    network_d: Annotated[Network | UnsetType, Meta(description="the discriminator of a GAN")] = UNSET


class BasicSROptions(GanOptions, kw_only=True):
    """One run of a BasicSR model for single images."""

    scale: Annotated[Count | UnsetType, Meta(description="upscaling factor")] = UNSET
    path: Annotated[GanPathOptions, Meta(description="initial weights")]
    train: Annotated[BasicSRTrainOptions | UnsetType, Meta(description="schedule and losses")] = UNSET
    val: Annotated[ValOptions | None, Meta(description="validation and testing")] = None


class OpenOptions(GanOptions, kw_only=True, forbid_unknown_fields=False):
    """One run of BasicSR's other models, or of another plug-in's, which may read further keys."""

    scale: Annotated[Count | UnsetType, Meta(description="upscaling factor")] = UNSET
    path: Annotated[OpenPathOptions, Meta(description="initial weights")]
    train: Annotated[OpenTrainOptions | UnsetType, Meta(description="schedule and losses")] = UNSET
    val: Annotated[OpenValOptions | None, Meta(description="validation and testing")] = None
