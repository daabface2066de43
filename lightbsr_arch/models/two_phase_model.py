"""What the training of teachers and students shares: a phase that trains the estimator alone."""

from typing import Any

from torch import nn

from lightbsr_arch.models.blindsr_model import BlindSRModel


class TwoPhaseModel(BlindSRModel):
    """During the first ``train.estimator_iter`` iterations the restorer rests, and no image is restored.

    Of the restorer, only the layers that make its guides of an IDR learn then, as far as a loss compares guides.

    Several processes train as one with their batches joined would, except for LightIDE's batch normalisation. It takes
    the statistics of each process's own samples. The published code synchronises it, which PyTorch does on GPUs only.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.estimator_iter: int = (opt.get("train") or {}).get("estimator_iter", 0)
        super().__init__(opt)

    def estimator_alone(self, current_iter: int) -> bool:
        """Whether an iteration belongs to the first phase; the restorer is set accordingly."""
        alone = current_iter <= self.estimator_iter
        restorer = self.get_bare_model(self.net_g).restorer
        restorer.requires_grad_(not alone)
        for layer in restorer.converters:
            layer.requires_grad_(True)
        return alone

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.estimator_iter:
            self.opt["find_unused_parameters"] = True  # or distributed training waits for the restorer's gradients
        return super().model_to_device(net)
