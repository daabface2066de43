"""The base of all models: BasicSR's SRModel with degradation on the fly, composed of objectives."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Estimator
from lightbsr_arch.archs.residual_restorer import ResidualRestorer
from lightbsr_arch.degradations import Draws, Parameters, Pooled, build_degradation
from lightbsr_arch.losses.smooth_areas import with_smooth_areas_of
from lightbsr_arch.models.composition import ComposedModel
from lightbsr_arch.models.fitting import fit_estimator
from lightbsr_arch.models.stepping import SteppingModel
from lightbsr_arch.models.validation import ValidatingModel
from lightbsr_arch.objectives import Knowledge, Losses, Objective, move_average
from lightbsr_arch.objectives.gan import Adversarial
from lightbsr_arch.seeds import derive_seed


@MODEL_REGISTRY.register()
class BlindSRModel(ComposedModel, SteppingModel, ValidatingModel):
    """Trains any network that upscales images (EDSR, RCAN, SwinIR, ...) on images degraded on the fly.

    The YAML's ``degradation`` section describes the degradation. Besides BasicSR's keys, ``train`` may hold
    ``grad_clip`` (largest norm of the gradient), ``amp`` (bf16 or fp16), ``channels_last``, ``compile``,
    ``checkpoint_activations``, ``nan_loss`` (stop or skip) and ``scheduler_start`` (steps at a constant rate before the
    scheduler begins). With ``network_d`` and ``train.gan_opt``, the network is trained against a discriminator.

    A training step draws the degradations of all processes from (manual_seed, iteration), and each process uses its own
    part. A resumed run therefore continues as the uninterrupted run would have.

    A subclass lists ``objective_types``. The objectives that the options ask for add their losses, networks, optimisers
    and state. If one of them can train an estimator without restored images, ``train.estimator_iter`` can set the
    length of a first phase. In this phase no image is restored and the restorer is frozen, except for the layers that
    compute its guides. These learn if an objective compares guides.

    If the estimator needs a PCA of blur kernels that no checkpoint contains, the PCA is fitted to kernels that are
    drawn from ``degradation`` with the run's seed.

    Several processes train as one process with their joined batches would, with three exceptions. Batch normalisation
    (LightIDE) uses the statistics of each process's own samples. The published code synchronises them, which PyTorch
    supports on GPUs only. Each process draws its own second-order degradations, and has its own pool of pairs; only the
    pool of the first process is saved. MRDA's teacher adapts to the samples of each process.

    Attributes:
        gt: ground truth of the losses and the privileged estimators; the degradation may have sharpened it.
        gt_plain: ground truth before any sharpening (training).
        prior: kernels and noise levels that degraded ``lq``, if they are known.
    """

    objective_types: ClassVar[tuple[type[Objective], ...]] = (Adversarial,)
    gt: torch.Tensor
    gt_plain: torch.Tensor
    prior: Parameters | None = None
    degradation: Any = None

    def __init__(self, opt: dict[str, Any]) -> None:
        self.channels_last: bool = (opt.get("train") or {}).get("channels_last", False)
        self.current_iter = 0
        if "degradation" in opt:
            self.degradation = build_degradation(opt["degradation"], opt["scale"])
        super().__init__(opt)

    # ------------------------------------------------------------------------------------------ setting up

    def init_training_settings(self) -> None:
        self.generator = torch.Generator(self.device)
        net: Any = self.get_bare_model(self.net_g)
        estimator = getattr(net, "estimator", None)
        if isinstance(estimator, Estimator):
            fit_estimator(estimator, self.opt, self.degradation)
        if self.opt["train"].get("checkpoint_activations", False):
            restorer = getattr(net, "restorer", net)
            if not isinstance(restorer, ResidualRestorer):
                name = type(restorer).__name__
                raise UserError(f"train.checkpoint_activations: {name} does not support it; set it to false")
            restorer.checkpoint_activations = True
        self.build_objectives()
        super().init_training_settings()
        if self.opt["train"].get("compile", False):
            self.net_g.compile()

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.channels_last:
            net = net.to(memory_format=torch.channels_last)
        return super().model_to_device(net)

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
            if current_iter == warmup_iter:
                self._set_lr(self.first_rates)  # BasicSR's MultiStepRestartLR would keep the rate before the last step
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
            self.check_batch(len(gt))
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
        self.logged = {}
        buffers = self._buffers() if self.opt["train"].get("nan_loss") == "skip" else []
        fault = self.update_weights(current_iter)
        if fault is not None:
            for buffer, before in buffers:
                buffer.copy_(before)
        self.count_skipped(current_iter, fault)
        self.log_dict = self.reduce_loss_dict(OrderedDict(self.logged))
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _buffers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the buffers of all networks and losses, and copies of them.

        The forward pass changes statistics of batch normalisation. Some of them would be NaN after a step with NaN.
        """
        parts = (part for objective in self.objectives.values() for part in vars(objective).values())
        modules = [self.net_g, *(part for part in parts if isinstance(part, nn.Module))]
        return [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]

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
        """Restore the batch into ``output``, and return the network's tensors that ``knowledge`` names."""
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
        """Return the images that ``output`` restores: the first of each ``num_patch`` neighbours, or all of them."""
        return images if self.of_neighbour else images[:: self.num_patch]

    def textured(self, images: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        """Return images for a loss of texture, with ``gt`` in the smooth areas if ``train.texture_std`` is set."""
        smallest: float | None = self.opt["train"].get("texture_std")
        return images if smallest is None else with_smooth_areas_of(gt, images, smallest)

    def image_losses(self) -> Losses:
        """Return BasicSR's losses of ``output`` against ``gt``."""
        output, gt = self.output.float(), self.first_patches(self.gt)
        losses: Losses = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(self.textured(output, gt), gt)
            if perceptual is not None:
                losses["l_percep"] = perceptual
            if style is not None:
                losses["l_style"] = style
        return losses

    def model_ema(self, decay: float = 0.999) -> None:
        """Update the moving average of the weights, and copy the buffers, which BasicSR does not."""
        move_average(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    # ------------------------------------------------------------------------------------------ saving and resuming

    def more_training_state(self) -> dict[str, Any]:
        state = super().more_training_state()
        if isinstance(self.degradation, Pooled):
            state["degradation"] = self.degradation.state_dict()
        return state

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        # Only the first process saves its pool and continues with it. The other processes fill their pools anew.
        pool = resume_state.get("degradation")
        if pool and isinstance(self.degradation, Pooled) and self.opt["rank"] == 0:
            self.degradation.load_state_dict(pool)
