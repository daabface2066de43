"""Training by ranking of degrees of degradation, and the GAN."""

from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives.gan import Adversarial
from lightbsr_arch.objectives.ranking import DegreeRanking


@MODEL_REGISTRY.register()
class RankedSRModel(BlindSRModel):
    """Trains a ``BlindSR`` whose estimator returns degrees of degradation, which it learns by ``train.ranking_opt``.

    MM-RealSR (ECCV 2022). ``degradation`` makes several versions of each image, whose order is known. All of them are
    restored. With ``network_d`` and ``train.gan_opt``, this is MM-RealSR's second stage, the GAN. It starts from a
    network that was trained without the GAN, and leaves its estimator unchanged (``train.freeze_estimator``).
    """

    objective_types = (DegreeRanking, Adversarial)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        # Otherwise distributed training waits for the gradients of a frozen part.
        train = self.opt.get("train") or {}
        if train.get("freeze_estimator") or train.get("freeze_restorer"):
            self.opt["find_unused_parameters"] = True
        return super().model_to_device(net)
