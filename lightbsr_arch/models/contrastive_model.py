"""Training by contrast between degradations, without a teacher."""

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives import MomentumContrast


@MODEL_REGISTRY.register()
class ContrastiveSRModel(BlindSRModel):
    """Trains a ``BlindSR`` by the losses of images and, with ``train.contrast_opt``, by contrast.

    Each ``num_patch`` neighbours of a batch then share a degradation: of one image with ``patches_per_item`` in
    ``datasets.train``, else of different images. The estimator sees all of them, each position in a pass of its own;
    the restorer sees only the first. During the first ``train.estimator_iter`` iterations contrast is the only loss.
    """

    objective_types = (MomentumContrast,)
