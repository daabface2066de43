"""The first stage: a network whose estimator also sees what no user has."""

from collections.abc import Sequence

import torch
from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.errors import UserError
from lightbsr_arch.models.blindsr_model import BlindSRModel


@MODEL_REGISTRY.register()
class KDTeacherModel(BlindSRModel):
    """Trains a ``BlindSR`` with a teacher's estimator. KDSR (ICLR 2023), section 3.3: L1 alone."""

    def privileged(self) -> Sequence[torch.Tensor]:
        if not hasattr(self, "gt"):
            raise UserError("a teacher needs the ground truth of every image: use a dataset that has it")
        return (self.gt,)
