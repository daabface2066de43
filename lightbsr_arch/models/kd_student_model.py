"""The second stage: a network that sees the low-quality image alone learns what its teacher knows."""

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY

from lightbsr_arch.errors import UserError
from lightbsr_arch.models.adversarial import AdversarialModel
from lightbsr_arch.models.blindsr_model import Losses


@MODEL_REGISTRY.register()
class KDStudentModel(AdversarialModel):
    """Trains ``network_g``, a ``BlindSR`` with a student's estimator, under a frozen ``network_teacher``.

    KDSR (ICLR 2023), section 3.3; LightBSR (ICCV 2025), section 3.4. Unless ``path.pretrain_network_g`` names weights
    to start from, they are the teacher's: ``train.start_from_teacher`` says which. ``train.distill_opt`` is the
    distillation loss. During the first ``train.estimator_iter`` iterations it is the only one, and the restorer rests;
    then all losses count. With ``network_d`` and ``train.gan_opt`` it is KDSR's third stage, the GAN, which starts from
    a student trained without.
    """

    def init_training_settings(self) -> None:
        self._init_teacher()
        path = self.opt["path"]
        taken_over = self.opt["train"].get("start_from_teacher", "restorer")
        if path.get("pretrain_network_g") is None and taken_over != "none":
            self._start_from_teacher(taken_over)
        self.cri_distill = build_loss(self.opt["train"]["distill_opt"]).to(self.device)
        for name, net in (("network_g", self.get_bare_model(self.net_g)), ("network_teacher", self.net_teacher)):
            if not {*self.cri_distill.compares} <= {*net.knows}:
                raise UserError(
                    f"train.distill_opt compares {' and '.join(self.cri_distill.compares)}; {name} has "
                    f"{', '.join(net.knows)}: choose another loss"
                )
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
        if missing := self.net_teacher.missing():
            raise UserError(f"{load_path}: {missing}")
        self.net_teacher.eval().requires_grad_(False)

    def _start_from_teacher(self, which: str) -> None:
        """Copy the teacher's restorer, or also whatever of its estimator has the same name and shape in the student."""
        ours, theirs = self.get_bare_model(self.net_g).state_dict(), self.net_teacher.state_dict()
        fitting = {key for key, value in ours.items() if key in theirs and theirs[key].shape == value.shape}
        restorer = {key for key in {**ours, **theirs} if key.startswith("restorer.")}
        if not restorer <= fitting:
            raise UserError(
                "network_g.restorer is not network_teacher.restorer, from whose weights it is to start: make them "
                "equal, or name other weights in path.pretrain_network_g"
            )
        if which == "restorer":
            fitting = restorer
        for key in fitting:
            ours[key].copy_(theirs[key])
        fresh = [key for key in ours if key not in fitting]
        get_root_logger().info(
            f"{len(fitting)} of the student's tensors start from the teacher's, {len(fresh)} fresh: "
            f"{', '.join(fresh[:3])}{', ...' if len(fresh) > 3 else ''}"
        )

    def losses(self, current_iter: int) -> Losses:
        alone = self.estimator_alone(current_iter)
        compared = self.cri_distill.compares
        with torch.no_grad():
            _, taught = self.net_teacher(
                self.lq, *self.extra_input(self.net_teacher), knowledge=compared, restore=False
            )
        self.output, learnt = self.net_g(self.lq, knowledge=compared, restore=not alone)
        losses = {} if alone else self.image_losses()
        return {**losses, "l_distill": self.cri_distill(learnt, taught)}
