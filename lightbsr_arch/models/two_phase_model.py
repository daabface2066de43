"""What the training of teachers and students shares: a phase that trains the estimator alone."""

from typing import Any

from torch import nn

from lightbsr_arch.models.blindsr_model import BlindSRModel


class TwoPhaseModel(BlindSRModel):
    """During the first ``train.estimator_iter`` iterations the restorer rests, and no image is restored.

    Several processes train as one with their batches joined would, but for LightIDE's batch normalisation, which takes
    the statistics of each process's own samples, as published; PyTorch's synchronised one has no CPU version.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.estimator_iter: int = (opt.get("train") or {}).get("estimator_iter", 0)
        super().__init__(opt)

    def estimator_alone(self, current_iter: int) -> bool:
        """Whether an iteration belongs to the first phase; the restorer is set accordingly."""
        alone = current_iter <= self.estimator_iter
        # Its guides may be compared, and so receive gradients, but are not to learn from that.
        self.get_bare_model(self.net_g).restorer.requires_grad_(not alone)
        return alone

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.estimator_iter:
            self.opt["find_unused_parameters"] = True  # or distributed training waits for the restorer's gradients
        return super().model_to_device(net)
