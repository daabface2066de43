"""MRDA's second and third stages: meta-learning, and the teacher that adapts the meta-learned network."""

from collections.abc import Sequence

from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.objectives import Losses, Objective
from lightbsr_arch.objectives.meta import MetaAdaptation, MetaLearning


@MODEL_REGISTRY.register()
class MetaSRModel(BlindSRModel):
    """Trains a network such as ``MRDAMetaNet``, so that a few steps adapt it to a degradation (``train.meta_opt``).

    MRDA (IEEE TIP 2023), second stage. Validation restores the images without adaptation.
    """

    objective_types = (MetaLearning,)

    def losses(self, active: Sequence[Objective], alone: bool) -> Losses:
        """Return the losses of the objectives, which restore the images themselves with adapted weights."""
        self.output = None
        return {name: loss for objective in active for name, loss in objective.losses({}).items()}


@MODEL_REGISTRY.register()
class MetaTeacherModel(BlindSRModel):
    """Trains a ``BlindSR`` whose estimator, an ``MRDATeacher``, adapts a meta-learned network (``train.adapt_opt``).

    MRDA (IEEE TIP 2023), third stage. ``path.pretrain_network_meta`` is the meta-learned network, whose weights stay
    unchanged. All images of a batch have the same degradation.
    """

    objective_types = (MetaAdaptation,)
