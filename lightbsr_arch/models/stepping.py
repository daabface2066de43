"""Training steps in mixed precision. A step changes no weights if a loss or a gradient is not finite."""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.base_model import PatchedSRModel
from lightbsr_arch.device import slow_dtype
from lightbsr_arch.objectives import Losses
from lightbsr_arch.optim import optimizers
from lightbsr_arch.training_state import resume_scaler

# Stop after this many consecutive steps that are not finite.
MAX_SKIPPED_STEPS = 10


class SteppingModel(PatchedSRModel):
    """An SRModel with all of ``optim.optimizers()``, ``train.amp``, ``train.grad_clip`` and ``train.nan_loss``."""

    logged: Losses

    def __init__(self, opt: dict[str, Any]) -> None:
        amp = (opt.get("train") or {}).get("amp")
        self.amp_dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[amp]
        self.skipped_in_a_row = 0
        super().__init__(opt)

    def init_training_settings(self) -> None:
        if reason := slow_dtype(self.device, self.amp_dtype):
            get_root_logger().warning(f"train.amp: {self.opt['train']['amp']}: {reason} (--force_yml train:amp=null)")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        super().init_training_settings()

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Build any optimiser of ``torch.optim``, or ``ConvMuon``, by name; BasicSR's function builds only Adam."""
        return optimizers()[optim_type](params, lr=lr, **kwargs)

    def autocast(self) -> torch.autocast:
        """Return a context with the precision that ``train.amp`` asks for."""
        return torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None)

    def take_step(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, losses: Losses, largest: float | None
    ) -> str | None:
        """Update weights by their gradients, clipped to the norm ``largest``, and log the losses.

        Returns:
            The name of a loss or gradient that is not finite, in which case the weights stay unchanged, or None.
        """
        self.logged.update((name, loss.detach()) for name, loss in losses.items())
        weights = optimizer.param_groups[0]["params"]
        finite = [self._all_ranks_finite(torch.stack(list(losses.values())).sum())]
        if not scaler.is_enabled():
            finite.append(nn.utils.clip_grad_norm_(weights, math.inf if largest is None else largest).isfinite())
        # The host waits for the device here. All losses are therefore tested at once.
        if not torch.stack(finite).all():
            bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
            return f"loss {', '.join(bad) or 'of another process'}" if not finite[0] else "the gradient"
        if largest is not None and scaler.is_enabled():
            scaler.unscale_(optimizer)
            # Infinite gradients are normal with fp16: the scaler skips the step and lowers the scale.
            nn.utils.clip_grad_norm_(weights, largest)
        scaler.step(optimizer)
        scaler.update()
        return None

    def _all_ranks_finite(self, total: torch.Tensor) -> torch.Tensor:
        """Return whether all processes have a finite loss; all must take the same branch, or a reduction hangs."""
        finite = total.detach().isfinite().float()
        if self.opt["dist"]:
            torch.distributed.all_reduce(finite, op=torch.distributed.ReduceOp.MIN)
        return finite.bool()

    def reduce_loss_dict(self, loss_dict: Losses) -> Losses:
        """Return the means of the losses over the processes. They stay on the device, unlike BasicSR's."""
        if not loss_dict:
            return OrderedDict()
        with torch.no_grad():
            means = torch.stack([loss.float().mean() for loss in loss_dict.values()])
            if self.opt["dist"]:
                torch.distributed.reduce(means, dst=0)
                if self.opt["rank"] == 0:
                    means /= self.opt["world_size"]
            return OrderedDict(zip(loss_dict, means))

    def get_current_log(self) -> dict[str, float]:
        """Return the losses of the last step as numbers. The host waits for the device."""
        return OrderedDict((name, float(loss)) for name, loss in self.log_dict.items())

    def count_skipped(self, current_iter: int, fault: str | None) -> None:
        """Count the consecutive steps that were left out.

        Args:
            current_iter: the iteration.
            fault: the name of the value that is not finite, or None after a step.

        Raises:
            UserError: the options do not allow a step to be left out, or too many follow each other.
        """
        self.skipped_in_a_row = 0 if fault is None else self.skipped_in_a_row + 1
        if fault is None:
            return
        if self.opt["train"].get("nan_loss") == "skip" and self.skipped_in_a_row <= MAX_SKIPPED_STEPS:
            get_root_logger().warning(f"iter {current_iter}: {fault} is not finite; step skipped")
            return
        # Later states belong to an older run, whose files are moved away after the first iteration.
        states = [int(state.stem) for state in Path(self.opt["path"]["training_states"]).glob("*.state")]
        last = max((iteration for iteration in states if iteration < current_iter), default=None)
        restart = "start again" if last is None else f"continue with --auto_resume from iter {last}, the last good one"
        raise UserError(
            f"iter {current_iter}: {fault} is not finite; {restart}, with a lower train.optim_g.lr or train.grad_clip; "
            f"train.nan_loss: skip leaves out up to {MAX_SKIPPED_STEPS} such "
            "steps in a row"
        )

    def more_training_state(self) -> dict[str, Any]:
        state = {"scaler": self.scaler.state_dict(), "skipped_in_a_row": self.skipped_in_a_row}
        return {**super().more_training_state(), **state}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        self.skipped_in_a_row = resume_state.get("skipped_in_a_row", 0)
        resume_scaler(self.scaler, resume_state.get("scaler", {}))
