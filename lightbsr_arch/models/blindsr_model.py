"""BasicSR's SRModel with degradation on the fly, mixed precision and checks for values that are not finite."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
from basicsr.data import build_dataloader
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY, MODEL_REGISTRY
from msgspec import Struct
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import EXTRA_INPUTS, Estimator, extra_input
from lightbsr_arch.archs.window_padding import upscale_any_size
from lightbsr_arch.basicsr_patches.base_model import PatchedSRModel
from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.degradations import Draws, Parameters, SecondOrderDegradation, build_degradation
from lightbsr_arch.models.fitting import fit_estimator
from lightbsr_arch.models.options import run_options
from lightbsr_arch.objectives import Knowledge, Losses, Objective, move_average
from lightbsr_arch.option_types.problems import Finding, KeyPath
from lightbsr_arch.option_types.sections import section
from lightbsr_arch.seeds import derive_seed
from lightbsr_arch.training_state import resume_scaler

# Stop after this many consecutive steps that are not finite.
MAX_SKIPPED_STEPS = 10


@MODEL_REGISTRY.register()
class BlindSRModel(PatchedSRModel):
    """Trains any network that upscales images (EDSR, RCAN, SwinIR, ...) on images degraded on the fly.

    The YAML's ``degradation`` section describes the degradation. Besides BasicSR's keys, ``train`` may hold
    ``grad_clip`` (largest norm of the gradient), ``amp`` (bf16 or fp16), ``channels_last``, ``compile``, ``nan_loss``
    (stop or skip) and ``scheduler_start`` (steps at a constant rate before the scheduler begins).

    A training step draws the degradations of all processes from (manual_seed, iteration), and each process uses its own
    part. A resumed run therefore continues as the uninterrupted run would have.

    A subclass lists ``objective_types``. The objectives that the options ask for add their losses, networks, optimisers
    and state. If one of them can train an estimator without restored images, ``train.estimator_iter`` may ask for a
    first phase. In this phase no image is restored and the restorer is frozen, except for the layers that compute its
    guides. These learn if an objective compares guides.

    If the estimator needs a PCA of blur kernels that no checkpoint contains, it is fitted to kernels that are drawn
    from ``degradation`` with the run's seed.

    Several processes train as one process with their joined batches would, except for batch normalisation (LightIDE),
    which uses the statistics of each process's own samples. The published code synchronises them, which PyTorch
    supports on GPUs only.

    Attributes:
        objective_types: the objectives that options can ask for, in the order in which they are built.
        objectives: the objectives that the options of this training ask for, by their ``option``.
        Options: the struct of a whole options file.
        metrics_by_dataset: whether data sets without ground truth are validated with only the metrics that need none.
        gt: ground truth of the losses and the privileged estimators; the degradation may have sharpened it.
        gt_plain: ground truth before any sharpening (training).
        prior: kernels and noise levels that degraded ``lq``, if they are known.
        output: restored images; None in the phase that trains only the estimator.
        num_patch: neighbours in a batch that share a degradation.
        estimator_iter: iterations of the phase that trains only the estimator.
    """

    objective_types: ClassVar[tuple[type[Objective], ...]] = ()
    Options: ClassVar[type[Struct]]
    metrics_by_dataset = True
    lq: torch.Tensor
    gt: torch.Tensor
    gt_plain: torch.Tensor
    prior: Parameters | None = None
    output: Any
    num_patch = 1
    degradation: Any = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "Options" not in vars(cls):
            cls.Options = run_options(cls.__name__, cls.__doc__, cls.objective_types)

    def __init__(self, opt: dict[str, Any]) -> None:
        train_opt = opt.get("train") or {}
        self.channels_last: bool = train_opt.get("channels_last", False)
        self.amp_dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[train_opt.get("amp")]
        self.estimator_iter: int = train_opt.get("estimator_iter", 0)
        self.of_neighbour = train_opt.get("idr_of") == "neighbour"
        self.objectives: dict[str, Objective] = {}
        self.current_iter = 0
        self.skipped_in_a_row = 0
        if "degradation" in opt:
            self.degradation = build_degradation(opt["degradation"], opt["scale"])
        super().__init__(opt)

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any], *, is_train: bool) -> Iterator[Finding]:
        """Find mistakes that the types of the options leave open. The options may be of any shape."""
        findings = [
            finding for objective in cls.objective_types for finding in objective.check(options, is_train=is_train)
        ]
        yield from findings
        train = section(options, "train")
        if not train:
            return
        if train.get("pixel_opt") is None and train.get("perceptual_opt") is None:
            yield Finding(("train", "pixel_opt"), "missing-key", "missing; training needs it or perceptual_opt")
        data = section(options, "datasets", "train")
        if data and "dataroot_lq" not in data and "degradation" not in options:
            yield Finding(
                ("degradation",), "missing-key", f"missing; {data.get('type')} has no LR images, which it makes"
            )
        if train.get("idr_of") == "neighbour":
            asked = [objective.option for objective in cls.objective_types if objective.asked(options)]
            if asked:
                yield Finding(
                    ("train", "idr_of"),
                    "objectives-conflict",
                    f"neighbour cannot be combined with {' and '.join(asked)}",
                )
            if section(options, "network_g").get("type") != "BlindSR":
                yield Finding(("train", "idr_of"), "needs-idr", "neighbour needs a network_g with an IDR: type BlindSR")
        fault = cls._no_estimator_objective(options) if train.get("estimator_iter") else None
        able = {("train", objective.option) for objective in cls.objective_types if not objective.of_image}
        if fault is not None and able and not any(finding.key in able for finding in findings):
            yield Finding(("train", "estimator_iter"), "no-estimator-objective", fault)

    @classmethod
    def equal_networks(cls, options: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any], str]]:
        """List sections of networks that must be equal to others; see ``Objective.equal_networks``."""
        for objective in cls.objective_types:
            yield from objective.equal_networks(options)

    @classmethod
    def _no_estimator_objective(cls, options: dict[str, Any]) -> str | None:
        """Return why ``train.estimator_iter`` trains nothing, or None if an objective trains the estimator."""
        able = [objective for objective in cls.objective_types if not objective.of_image]
        if any(objective.asked(options) for objective in able):
            return None
        if not able:
            return f"{cls.__name__} has no objective that trains the estimator alone"
        means = " or ".join(objective.option.removesuffix("_opt") for objective in able)
        missing = " or ".join(f"train.{objective.option}" for objective in able)
        return f"trains the estimator by {means}: {missing} is missing"

    # ------------------------------------------------------------------------------------------ setting up

    def init_training_settings(self) -> None:
        train_opt = self.opt["train"]
        self.generator = torch.Generator(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        estimator = getattr(self.get_bare_model(self.net_g), "estimator", None)
        if isinstance(estimator, Estimator):
            fit_estimator(estimator, self.opt, self.degradation)
        self._build_objectives()
        super().init_training_settings()
        if train_opt.get("compile", False):
            self.net_g.compile()

    def _build_objectives(self) -> None:
        if self.estimator_iter and (fault := self._no_estimator_objective(self.opt)):
            raise UserError(f"train.estimator_iter {fault}")
        for objective_type in self.objective_types:
            if objective_type.asked(self.opt):
                self.objectives[objective_type.option] = objective_type(self)
        shared = {objective.num_patch: f"train.{key}.num_patch" for key, objective in self.objectives.items()}
        if self.of_neighbour:
            shared[2] = "train.idr_of"
        shared.pop(1, None)
        if len(shared) > 1:
            raise UserError(f"{' and '.join(shared.values())} must agree: as many neighbours share a degradation")
        for self.num_patch, self._patch_option in shared.items():
            pass

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.channels_last:
            net = net.to(memory_format=torch.channels_last)
        # Otherwise distributed training waits for gradients of a frozen restorer, or of an embedding without a loss.
        knowledge = {
            name for objective in self.objective_types if objective.asked(self.opt) for name in objective.knowledge
        }
        if self.estimator_iter or "embedding" in {*getattr(net, "knows", ())} - knowledge:
            self.opt["find_unused_parameters"] = True
        return super().model_to_device(net)

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Build any optimiser of ``torch.optim`` by name; BasicSR's function builds only Adam."""
        optimizer: torch.optim.Optimizer = getattr(torch.optim, optim_type)(params, lr=lr, **kwargs)
        return optimizer

    def setup_optimizers(self) -> None:
        super().setup_optimizers()
        for objective in self.objectives.values():
            self.optimizers += objective.optimizers()

    def setup_schedulers(self) -> None:
        super().setup_schedulers()
        self.first_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    # ------------------------------------------------------------------------------------------ training

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Update the rate as BasicSR does, but start the scheduler after ``train.scheduler_start`` steps.

        These steps have the scheduler's first rate. The last ``warmup_iter`` of them raise the rate from 0 again.
        """
        self.current_iter = current_iter  # BasicSR passes it here, before it feeds the data
        start = self.opt["train"].get("scheduler_start", 0)
        if not start:
            super().update_learning_rate(current_iter, warmup_iter)
        elif current_iter > start + 1:
            super().update_learning_rate(current_iter)
        else:
            warm = current_iter - (start - warmup_iter)
            factor = warm / warmup_iter if 0 < warm < warmup_iter else 1.0
            self._set_lr([[factor * rate for rate in rates] for rates in self.first_rates])

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch of pairs (validation), or degrade a batch of ground truth (training)."""
        if "lq" not in data:
            gt = data["gt"].to(self.device, non_blocking=True)
            per_item = gt.shape[1] if gt.dim() == 5 else 1
            gt = gt.flatten(0, -4)  # patches of an item become samples
            self.generator.manual_seed(derive_seed(self.opt["manual_seed"], self.current_iter))
            for objective in self.objectives.values():
                given, gt = gt, objective.extend(gt, self.generator)
                per_item *= len(gt) // len(given)
            if len(gt) % self.num_patch:
                raise UserError(
                    f"a batch has {len(gt)} patches, no multiple of the {self.num_patch} that are to share a "
                    f"degradation ({self._patch_option}): change datasets.train.batch_size_per_gpu"
                )
            draws = Draws(self.generator, self.opt["rank"], self.opt["world_size"], self.num_patch, per_item)
            degraded = self.degradation(gt, draws)
            data = {
                "lq": degraded.lq, "gt": degraded.gt, "gt_plain": degraded.gt_plain, "degradation": degraded.parameters,
            }  # fmt: skip
        super().feed_data(data)
        if "gt" in data:
            self.gt_plain = data.get("gt_plain", self.gt)
        known = data.get("degradation")
        self.prior = None if known is None else Parameters(*known).to(self.device)
        if self.channels_last:
            self.lq = self.lq.contiguous(memory_format=torch.channels_last)

    def optimize_parameters(self, current_iter: int) -> None:
        self.logged: Losses = {}
        fault = self.update_weights(current_iter)
        if fault is None:
            self.skipped_in_a_row = 0
        else:
            self._skip_or_stop(current_iter, fault)
        self.log_dict = self.reduce_loss_dict(OrderedDict(self.logged))
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def update_weights(self, current_iter: int) -> str | None:
        """Update the weights.

        Returns:
            The name of a loss or gradient that is not finite, in which case the weights stay unchanged, or None.
        """
        alone = self._estimator_alone(current_iter)
        active = [objective for objective in self.objectives.values() if not (alone and objective.of_image)]
        learns = all(objective.learns(current_iter) for objective in active)
        if learns:
            self.optimizer_g.zero_grad()
            with self.autocast():
                losses = self.losses(active, alone)
            self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
            fault = self.take_step(self.optimizer_g, self.scaler, losses, self.opt["train"].get("grad_clip"))
            if fault is not None:
                return fault
        else:
            with torch.no_grad(), self.autocast():
                self._restore()
        faults = (objective.after_step(learnt=learns) for objective in active)
        return next((fault for fault in faults if fault is not None), None)

    def _estimator_alone(self, current_iter: int) -> bool:
        """Return whether an iteration trains only the estimator, and freeze the restorer accordingly."""
        alone = current_iter <= self.estimator_iter
        if self.estimator_iter:
            restorer = self.get_bare_model(self.net_g).restorer
            restorer.requires_grad_(not alone)
            for layer in restorer.converters:
                layer.requires_grad_(True)
        return alone

    def autocast(self) -> torch.autocast:
        """Return a context with the precision that ``train.amp`` asks for."""
        return torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None)

    def take_step(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, losses: Losses, largest: float | None
    ) -> str | None:
        """Update weights by their gradients, clipped to the norm ``largest``, and log the losses.

        Returns:
            The name of a loss or gradient that is not finite, in which case the weights stay as they are; or None.
        """
        self.logged.update((name, loss.detach()) for name, loss in losses.items())
        if not self._all_ranks_finite(torch.stack(list(losses.values())).sum()):
            bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
            return f"loss {', '.join(bad) or 'of another process'}"
        if largest is not None:
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], largest)
            # With fp16, infinite gradients are normal: the scaler skips the step and lowers the scale.
            if not (scaler.is_enabled() or norm.isfinite()):
                return "the gradient"
        scaler.step(optimizer)
        scaler.update()
        return None

    def losses(self, active: Sequence[Objective], alone: bool) -> Losses:
        """Return the weighted losses of this step by name; their sum is minimised.

        Args:
            active: the objectives that take part.
            alone: whether only the estimator trains.
        """
        knowledge = [*dict.fromkeys(name for objective in active for name in objective.knowledge)]
        known = self._restore(knowledge, alone)
        losses = {} if alone else self.image_losses()
        for objective in sorted(active, key=lambda objective: not objective.of_image):
            losses |= objective.losses({name: known[name] for name in objective.knowledge})
        return losses

    def _restore(self, knowledge: Collection[str] = (), alone: bool = False) -> Knowledge:
        """Set ``output``, and return the network's knowledge of the batch."""
        if alone and not knowledge:  # the objectives run the estimator
            self.output = None
            return {}
        seen = self.extra_input(self.net_g)
        if self.of_neighbour:
            self.output = self.net_g(self.lq, *seen, of_neighbour=True)
            return {}
        if not (knowledge or alone or self.num_patch > 1):
            self.output = self.net_g(self.lq, *seen)  # networks of other packages take no keywords
            return {}
        known: Knowledge
        result = self.net_g(self.lq, *seen, knowledge=knowledge, restore=not alone, num_patch=self.num_patch)
        self.output, known = result if knowledge else (result, {})
        return known

    def first_patches(self, images: torch.Tensor) -> torch.Tensor:
        """Return those images that ``output`` restores: the first of each ``num_patch`` neighbours, or all."""
        return images if self.of_neighbour else images[:: self.num_patch]

    def image_losses(self) -> Losses:
        """Return BasicSR's losses of ``output`` against ``gt``."""
        output, gt = self.output.float(), self.first_patches(self.gt)
        losses: Losses = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(output, gt)
            if perceptual is not None:
                losses["l_percep"] = perceptual
            if style is not None:
                losses["l_style"] = style
        return losses

    def model_ema(self, decay: float = 0.999) -> None:
        """Update the moving average of the weights, and copy the buffers, which BasicSR does not."""
        move_average(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    def _all_ranks_finite(self, total: torch.Tensor) -> bool:
        """Return whether all processes have a finite loss; all must take the same branch, or a reduction hangs."""
        finite = total.detach().isfinite().float()
        if self.opt["dist"]:
            torch.distributed.all_reduce(finite, op=torch.distributed.ReduceOp.MIN)
        return bool(finite)

    def _skip_or_stop(self, current_iter: int, what: str) -> None:
        self.skipped_in_a_row += 1
        if self.opt["train"].get("nan_loss") == "skip" and self.skipped_in_a_row <= MAX_SKIPPED_STEPS:
            get_root_logger().warning(f"iter {current_iter}: {what} is not finite; step skipped")
            return
        saved = Path(self.opt["path"]["training_states"]).glob("*.state")
        last = max((int(state.stem) for state in saved), default=None)
        good = "no checkpoint was saved before it" if last is None else f"the last good checkpoint is of iter {last}"
        raise UserError(
            f"iter {current_iter}: {what} is not finite; {good}: continue from there with --auto_resume and a lower "
            f"train.optim_g.lr or train.grad_clip; train.nan_loss: skip leaves out up to {MAX_SKIPPED_STEPS} such "
            "steps in a row"
        )

    # ------------------------------------------------------------------------------------------ saving and resuming

    def save(self, epoch: int, current_iter: int) -> None:
        for objective in self.objectives.values():
            for label, net in objective.networks().items():
                self.save_network(net, label, current_iter)
        super().save(epoch, current_iter)

    def more_training_state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides networks, optimisers and schedulers."""
        state = {"scaler": self.scaler.state_dict(), "skipped_in_a_row": self.skipped_in_a_row}
        if isinstance(self.degradation, SecondOrderDegradation):
            state["degradation"] = self.degradation.state_dict()
        for objective in self.objectives.values():
            state |= objective.state()
        return state

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        self.skipped_in_a_row = resume_state.get("skipped_in_a_row", 0)
        # Only the first process saves its pool and continues with it. The other processes fill their pools anew.
        pool = resume_state.get("degradation")
        if pool and isinstance(self.degradation, SecondOrderDegradation) and self.opt["rank"] == 0:
            self.degradation.load_state_dict(pool)
        resume_scaler(self.scaler, resume_state.get("scaler", {}))
        for objective in self.objectives.values():
            objective.load_state(resume_state)

    # ------------------------------------------------------------------------------------------ validation

    def extra_input(self, net: nn.Module) -> tuple[Any, ...]:
        """Return the batch's input beyond the low-quality images as ``net`` needs it, or an empty tuple."""
        return extra_input(self.get_bare_model(net), {name: getattr(self, name, None) for name in EXTRA_INPUTS})

    def test(self) -> None:
        # Only the first process validates, so it uses the network without the wrapper that communicates with the
        # others.
        trained: Any = self.get_bare_model(self.net_g)
        net = getattr(self, "net_g_ema", trained)
        net.eval()
        with torch.inference_mode():
            self.output = upscale_any_size(net, self.lq, *self.extra_input(net))
        net.train(net is trained and self.is_train)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Run BasicSR's loop once per setting of the data set, and log the mean under the data set's name.

        A data set without ground truth is validated with only the metrics that need none.
        """
        dataset = dataloader.dataset
        if isinstance(dataset, SingleImageDataset):
            with self._without_gt():
                super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        if not isinstance(dataset, DegradedDataset):
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        results: list[dict[str, float]] = []
        for view in dataset.by_setting():
            loader = build_dataloader(view, view.opt)
            super().nondist_validation(loader, current_iter, tb_logger, save_img)
            results.append(getattr(self, "metric_results", {}))
        if not results[0]:
            return
        name = dataset.opt["name"]
        self.metric_results = {key: sum(result[key] for result in results) / len(results) for key in results[0]}
        self._initialize_best_metric_results(name)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)

    @contextmanager
    def _without_gt(self) -> Iterator[None]:
        self.__dict__.pop("gt", None)  # that of the last training batch, with which BasicSR would compare
        val = self.opt["val"]
        every = val.get("metrics")
        kept = {name: of for name, of in (every or {}).items() if not compares_with_gt(METRIC_REGISTRY.get(of["type"]))}
        val["metrics"] = kept or None
        self.__dict__.pop("metric_results", None)  # its keys include the metrics that are left out
        try:
            yield
        finally:
            self.__dict__.pop("metric_results", None)
            val["metrics"] = every


def compares_with_gt(metric: Callable[..., Any]) -> bool:
    """Return whether a metric of BasicSR also takes the ground truth."""
    gt = signature(metric).parameters.get("img2")
    return gt is not None and gt.default is gt.empty


BlindSRModel.Options = run_options(BlindSRModel.__name__, BlindSRModel.__doc__, ())
