"""The valid options as types, from which the check, ``options/schema.json`` and ``docs/options.md`` are derived.

The arguments of registered classes are read off their signatures (``signatures.py``). Rules that involve several
options are in ``checks/combinations.py``.

A section marked with one of the kinds below names a registered class with ``type``; its other keys are that class's.
An optional key without a default of its own is ``UNSET``: leaving it out differs from writing ``null``.
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
    """An optimiser of torch.optim and its arguments. BasicSR's own models accept only Adam."""

    type: Annotated[str, Meta(description="Adam, or another class of torch.optim")]
    lr: Annotated[Positive, Meta(description="learning rate")]
    betas: Annotated[Range, Meta(description="decay of the running averages")] = (0.9, 0.999)
    eps: Annotated[Positive, Meta(description="added to the denominator")] = 1e-8
    weight_decay: Annotated[float, Meta(ge=0, description="L2 penalty")] = 0


class PathOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Weights to start from. Paths are relative to the folder that the command runs in; `~` means none."""

    pretrain_network_g: Annotated[str | None, Meta(description="weights that network_g starts from")] = None
    param_key_g: Annotated[str | None, Meta(description="key in that file: params or params_ema")] = "params"
    strict_load_g: Annotated[bool, Meta(description="every weight must be in the file, and no other")] = True
    resume_state: Annotated[str | None, Meta(description="training state (.state) to resume from")] = None
    ignore_resume_networks: Annotated[
        list[str] | str | None, Meta(description="networks whose pretrained path a resume leaves as it is")
    ] = None


class GanPathOptions(PathOptions, kw_only=True):
    """Weights to start from, including the discriminator's."""

    pretrain_network_d: Annotated[str | None, Meta(description="weights that network_d starts from")] = None
    param_key_d: Annotated[str | None, Meta(description="key in that file")] = "params"
    strict_load_d: Annotated[bool, Meta(description="every weight must be in the file, and no other")] = True


class OpenPathOptions(GanPathOptions, kw_only=True, forbid_unknown_fields=False):
    """Other models may name more networks."""


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
    net_d_iters: Annotated[Steps, Meta(description="train network_g once in this many steps")] = 1
    net_d_init_iters: Annotated[
        float, Meta(ge=0, multiple_of=1, description="first steps, which train only network_d")
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

    base: Annotated[
        str | UnsetType, Meta(description="another options file, whose options this file takes and changes")
    ] = UNSET
    name: Annotated[str, Meta(min_length=1, description="the run's name and its folder under experiments/ or results/")]
    model_type: Annotated[str, Meta(description="registered model class")]
    num_gpu: Annotated[Processes | Literal["auto"], Meta(description="GPUs to use; 0: the CPU; auto: all there are")]
    manual_seed: Annotated[Seed | None, Meta(description="seed of all that is random in a run; 0 if left out")] = None
    datasets: Annotated[dict[str, Dataset], Meta(min_length=1, description="train, val, test; more: val_1, test_1 ...")]
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
    path: Annotated[GanPathOptions, Meta(description="weights to start from")]
    train: Annotated[BasicSRTrainOptions | UnsetType, Meta(description="schedule and losses")] = UNSET
    val: Annotated[ValOptions | None, Meta(description="validation and testing")] = None


class OpenOptions(GanOptions, kw_only=True, forbid_unknown_fields=False):
    """One run of BasicSR's other models, or of another plug-in's, which may read further keys."""

    scale: Annotated[Count | UnsetType, Meta(description="upscaling factor")] = UNSET
    path: Annotated[OpenPathOptions, Meta(description="weights to start from")]
    train: Annotated[OpenTrainOptions | UnsetType, Meta(description="schedule and losses")] = UNSET
    val: Annotated[OpenValOptions | None, Meta(description="validation and testing")] = None
