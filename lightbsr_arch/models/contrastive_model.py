"""Training by contrast between degradations, without a teacher."""

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives.contrast import Contrast


@MODEL_REGISTRY.register()
class ContrastiveSRModel(BlindSRModel):
    """Trains a ``BlindSR`` by the losses of images and by contrast between degradations.

    Every registered objective that derives from ``Contrast`` adds its keys to ``train``. Each ``num_patch`` neighbours
    of a batch then share a degradation. They are patches of one image if ``datasets.train`` has
    ``patches_per_item``, and different images otherwise. A contrast can also add them to the batch itself. The
    estimator sees all of them; the restorer sees only the first. During the first ``train.estimator_iter`` iterations,
    the contrast is the only loss.
    """

    objective_types = (Contrast,)
