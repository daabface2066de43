"""The first stage of distillation."""

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.contrastive_model import ContrastiveSRModel
from lightbsr_arch.objectives.contrast import MomentumContrast


@MODEL_REGISTRY.register()
class KDTeacherModel(ContrastiveSRModel):
    """Trains a ``BlindSR`` with a teacher's estimator, which also receives privileged input.

    KDSR (ICLR 2023), section 3.3, uses the L1 loss. LightBSR (ICCV 2025), section 3.2, adds contrast
    (``train.contrast_opt``), which is the only loss during the first ``train.estimator_iter`` iterations.
    """

    objective_types = (MomentumContrast,)
