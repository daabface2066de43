"""Training by contrast between degradations, without a teacher."""

from typing import ClassVar

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives import CyclicContrast, MomentumContrast, Objective


@MODEL_REGISTRY.register()
class ContrastiveSRModel(BlindSRModel):
    """Trains a ``BlindSR`` by the losses of images and by contrast: ``train.contrast_opt`` or ``train.cyclic_opt``.

    Each ``num_patch`` neighbours of a batch then share a degradation. With ``train.contrast_opt`` they are of one image
    if ``datasets.train`` has ``patches_per_item``, else of different images; ``train.cyclic_opt`` adds them by a
    cyclic shift of the batch. The estimator sees all of them, each position in a pass of its own; the restorer sees
    only the first. During the first ``train.estimator_iter`` iterations contrast is the only loss.
    """

    objective_types: ClassVar[tuple[type[Objective], ...]] = (MomentumContrast, CyclicContrast)
