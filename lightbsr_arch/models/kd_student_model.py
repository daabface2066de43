"""The second stage of distillation, and the GAN."""

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives.distill import Distillation
from lightbsr_arch.objectives.gan import Adversarial


@MODEL_REGISTRY.register()
class KDStudentModel(BlindSRModel):
    """Trains a ``BlindSR`` with a student's estimator under a frozen ``network_teacher``.

    KDSR (ICLR 2023), section 3.3; LightBSR (ICCV 2025), section 3.4. ``train.distill_opt`` is the distillation loss.
    During the first ``train.estimator_iter`` iterations it is the only loss, and the restorer is frozen. After them all
    losses are used. With ``network_d`` and ``train.gan_opt``, this is KDSR's third stage, the GAN, which starts from a
    student that was trained without it.
    """

    objective_types = (Distillation, Adversarial)
