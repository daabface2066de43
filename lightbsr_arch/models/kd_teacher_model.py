"""The first stage of distillation."""

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.contrastive_model import ContrastiveSRModel
from lightbsr_arch.objectives import MomentumContrast


@MODEL_REGISTRY.register()
class KDTeacherModel(ContrastiveSRModel):
    """Trains a ``BlindSR`` with a teacher's estimator, which also sees privileged input.

    KDSR (ICLR 2023), section 3.3, trains it by the L1 loss. LightBSR (ICCV 2025), section 3.2, adds contrast:
    ``train.contrast_opt``, during the first ``train.estimator_iter`` iterations without the L1 loss.
    """

    objective_types = (MomentumContrast,)
