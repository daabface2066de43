"""Training by contrast between degradations, without a teacher."""

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives import MomentumContrast


@MODEL_REGISTRY.register()
class ContrastiveSRModel(BlindSRModel):
    """Trains a ``BlindSR`` with image losses and, if ``train.contrast_opt`` is given, with contrast.

    With contrast, each ``num_patch`` neighbours of a batch share a degradation. They are patches of one image if
    ``datasets.train.patches_per_item`` says so, otherwise of different images. The estimator sees all of them, each
    position in a separate pass. The restorer sees only the first. During the first ``train.estimator_iter`` iterations
    contrast is the only loss.
    """

    objective_types = (MomentumContrast,)
