"""The second stage: a network that sees the low-quality image alone learns what its teacher knows."""

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.errors import UserError
from lightbsr_arch.models.blindsr_model import BlindSRModel, Losses


@MODEL_REGISTRY.register()
class KDStudentModel(BlindSRModel):
    """Trains ``network_g``, a ``BlindSR`` with a student's estimator, under a frozen ``network_teacher``.

    KDSR (ICLR 2023), section 3.3. The restorer starts from the teacher's weights and the estimator fresh, unless
    ``path.pretrain_network_g`` names weights to start from. ``train.distill_opt`` is the distillation loss. During the
    first ``train.estimator_iter`` iterations it is the only one, and the restorer rests; then all losses count.
    """

    def init_training_settings(self) -> None:
        self._init_teacher()
        path = self.opt["path"]
        if path.get("pretrain_network_g") is None:
            self._start_from_teacher()
        self.cri_distill = build_loss(self.opt["train"]["distill_opt"]).to(self.device)
        self.estimator_iter: int = self.opt["train"].get("estimator_iter", 0)
        super().init_training_settings()

    def _init_teacher(self) -> None:
        self.net_teacher = build_network(self.opt["network_teacher"]).to(self.device)
        if self.channels_last:
            self.net_teacher = self.net_teacher.to(memory_format=torch.channels_last)
        path = self.opt["path"]
        load_path = path.get("pretrain_network_teacher")
        if load_path is None:
            raise UserError("path.pretrain_network_teacher is missing: a student needs a trained teacher")
        self.load_network(self.net_teacher, load_path, True, path.get("param_key_teacher", "params_ema"))
        self.net_teacher.eval().requires_grad_(False)

    def _start_from_teacher(self) -> None:
        restorer = self.get_bare_model(self.net_g).restorer
        try:
            restorer.load_state_dict(self.net_teacher.restorer.state_dict())
        except RuntimeError:
            raise UserError(
                "network_g.restorer is not network_teacher.restorer, from whose weights it is to start: make them "
                "equal, or name other weights in path.pretrain_network_g"
            ) from None
        get_root_logger().info("The student's restorer starts from the teacher's weights.")

    def losses(self, current_iter: int) -> Losses:
        estimator_alone = current_iter <= self.estimator_iter
        with torch.no_grad():
            _, taught = self.net_teacher(self.lq, self.gt, knowledge=["idr"], restore=False)
        self.output, learnt = self.net_g(self.lq, knowledge=["idr"], restore=not estimator_alone)
        losses = {} if estimator_alone else self.image_losses()
        return {**losses, "l_distill": self.cri_distill(learnt, taught)}
