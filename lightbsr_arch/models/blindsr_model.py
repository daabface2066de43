"""BasicSR's SRModel with degradation on the fly, and a training step fit for today's hardware."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from basicsr.data import build_dataloader
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY, MODEL_REGISTRY
from torch import nn

from lightbsr_arch.archs.part import EXTRA_INPUTS, extra_input
from lightbsr_arch.archs.window_padding import upscale_any_size
from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.degradations import Draws, Parameters, SecondOrderDegradation, build_degradation
from lightbsr_arch.errors import UserError
from lightbsr_arch.seeds import derive_seed
from lightbsr_arch.training_state import resume_scaler

# So many steps in a row without a finite loss are no accident any more.
MAX_SKIPPED_STEPS = 10

Losses = dict[str, torch.Tensor]


@MODEL_REGISTRY.register()
class BlindSRModel(SRModel):
    """Trains any network that upscales an image alone (EDSR, RCAN, SwinIR, ...) on images degraded on the fly.

    The YAML's ``degradation`` section says how. Besides BasicSR's keys, ``train`` may hold ``grad_clip`` (largest norm
    of the gradient), ``amp`` (bf16 or fp16), ``channels_last``, ``compile``, ``nan_loss`` (stop or skip) and
    ``scheduler_start`` (steps at a constant rate before the scheduler begins).

    A training step draws its degradations from (manual_seed, iteration) for the batches of all processes, and takes its
    own. So a resumed run continues as the uninterrupted one would have, and several processes train as one would.

    Attributes:
        gt: ground truth as losses and teachers see it; a degradation may have sharpened it.
        gt_plain: the same as it was before (training).
        prior: what degraded ``lq``, where that is known.
        num_patch: neighbours in a batch that share a degradation.
    """

    lq: torch.Tensor
    gt: torch.Tensor
    gt_plain: torch.Tensor
    prior: Parameters | None = None
    num_patch = 1
    degradation: Any = None

    def __init__(self, opt: dict[str, Any]) -> None:
        train_opt = opt.get("train") or {}
        self.channels_last: bool = train_opt.get("channels_last", False)
        self.amp_dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[train_opt.get("amp")]
        self.current_iter = 0
        self.skipped_in_a_row = 0
        if "degradation" in opt:
            self.degradation = build_degradation(opt["degradation"], opt["scale"])
        super().__init__(opt)

    # ------------------------------------------------------------------------------------------ setting up

    def init_training_settings(self) -> None:
        train_opt = self.opt["train"]
        self.generator = torch.Generator(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        super().init_training_settings()
        if train_opt.get("compile", False):
            self.net_g.compile()

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.channels_last:
            net = net.to(memory_format=torch.channels_last)
        return super().model_to_device(net)

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Any optimiser of ``torch.optim`` by name; BasicSR knows Adam alone."""
        return getattr(torch.optim, optim_type)(params, lr=lr, **kwargs)

    def setup_schedulers(self) -> None:
        super().setup_schedulers()
        self.first_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    # ------------------------------------------------------------------------------------------ training

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """BasicSR's, which begins at once, or after ``train.scheduler_start`` steps at the scheduler's first rate.

        The last ``warmup_iter`` of these steps raise the rate from 0 again.
        """
        self.current_iter = current_iter  # BasicSR tells it here, before it feeds the data
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
        """Take pairs as they are (validation), or degrade ground truth (training)."""
        if "lq" not in data:
            gt = data["gt"].to(self.device, non_blocking=True)
            per_item = gt.shape[1] if gt.dim() == 5 else 1
            gt = gt.flatten(0, -4)  # patches of an item become samples
            if len(gt) % self.num_patch:
                raise UserError(
                    f"a batch has {len(gt)} patches, no multiple of the {self.num_patch} that are to share a "
                    "degradation (train.contrast_opt.num_patch): change datasets.train.batch_size_per_gpu"
                )
            self.generator.manual_seed(derive_seed(self.opt["manual_seed"], self.current_iter))
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
        """Learn from the batch; names what is not finite, because of which weights stay as they are."""
        self.optimizer_g.zero_grad()
        with self.autocast():
            losses = self.losses(current_iter)
        self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        largest = self.opt["train"].get("grad_clip")
        return self._step(self.optimizer_g, self.scaler, losses, largest)

    def autocast(self) -> torch.autocast:
        """The precision that ``train.amp`` asks for."""
        return torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None)

    def _step(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, losses: Losses, largest: float | None
    ) -> str | None:
        """Update weights by their gradients, clipped to the norm ``largest``; names what is not finite instead."""
        self.logged.update((name, loss.detach()) for name, loss in losses.items())
        if not self._all_ranks_finite(torch.stack(list(losses.values())).sum()):
            bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
            return f"loss {', '.join(bad) or 'of another process'}"
        if largest is not None:
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], largest)
            # With fp16 an infinite gradient is the scaler's everyday business: it skips the step and lowers the scale.
            if not (scaler.is_enabled() or norm.isfinite()):
                return "the gradient"
        scaler.step(optimizer)
        scaler.update()
        return None

    def losses(self, current_iter: int) -> Losses:
        """The weighted losses of this step by name; their sum is what is minimised."""
        self.output = self.net_g(self.lq, *self.extra_input(self.net_g))
        return self.image_losses()

    def image_losses(self) -> Losses:
        """Of ``self.output`` against ``self.gt``."""
        output = self.output.float()
        losses: Losses = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, self.gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(output, self.gt)
            if perceptual is not None:
                losses["l_percep"] = perceptual
            if style is not None:
                losses["l_style"] = style
        return losses

    def model_ema(self, decay: float = 0.999) -> None:
        """BasicSR's moving average, in one call for all parameters, and with the buffers, which it forgets."""
        move_average(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    def _all_ranks_finite(self, total: torch.Tensor) -> bool:
        """Whether every process has a finite loss: all must go the same way, or the next reduction hangs."""
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

    # ------------------------------------------------------------------------------------------ resuming

    def more_training_state(self) -> dict[str, Any]:
        """What a resumed run needs besides networks, optimisers and schedulers."""
        state = {"scaler": self.scaler.state_dict(), "skipped_in_a_row": self.skipped_in_a_row}
        if isinstance(self.degradation, SecondOrderDegradation):
            state["degradation"] = self.degradation.state_dict()
        return state

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        self.skipped_in_a_row = resume_state.get("skipped_in_a_row", 0)
        # Of several processes the first saves, and so goes on with its pairs; the others fill their pools anew.
        pool = resume_state.get("degradation")
        if pool and isinstance(self.degradation, SecondOrderDegradation) and self.opt["rank"] == 0:
            self.degradation.load_state_dict(pool)
        resume_scaler(self.scaler, resume_state.get("scaler", {}))

    # ------------------------------------------------------------------------------------------ validation

    def extra_input(self, net: nn.Module) -> tuple[Any, ...]:
        """Return the batch's input beyond the low-quality images as ``net`` needs it, or an empty tuple."""
        return extra_input(self.get_bare_model(net), {name: getattr(self, name, None) for name in EXTRA_INPUTS})

    def test(self) -> None:
        # Of several processes the first validates alone: its network, out of the wrapper that talks to the others.
        trained: Any = self.get_bare_model(self.net_g)
        net = getattr(self, "net_g_ema", trained)
        net.eval()
        with torch.inference_mode():
            self.output = upscale_any_size(net, self.lq, *self.extra_input(net))
        net.train(net is trained and self.is_train)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """BasicSR's loop, once a setting for a dataset of several, and then their mean under the dataset's name.

        Of a dataset without ground truth only the metrics are taken that need none.
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
        self.__dict__.pop("gt", None)  # BasicSR's loop would compare with the last training batch's
        val = self.opt["val"]
        every = val.get("metrics")
        kept = {name: of for name, of in (every or {}).items() if not compares_with_gt(METRIC_REGISTRY.get(of["type"]))}
        val["metrics"] = kept or None
        self.__dict__.pop("metric_results", None)  # its keys are those of all metrics
        try:
            yield
        finally:
            self.__dict__.pop("metric_results", None)
            val["metrics"] = every


def compares_with_gt(metric: Callable[..., Any]) -> bool:
    """Whether one of BasicSR's metrics takes the ground truth beside the restored image."""
    gt = signature(metric).parameters.get("img2")
    return gt is not None and gt.default is gt.empty


@torch.no_grad()
def move_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the parameters of one module towards another's, and copy its buffers."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for ours, theirs in zip(average.buffers(), net.buffers()):
        ours.copy_(theirs)
