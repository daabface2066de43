"""The first stage: a network whose estimator also sees what no user has."""

from copy import deepcopy
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import distributed, nn

from lightbsr_arch.archs.blindsr_arch import estimate_apart
from lightbsr_arch.degradations import ClassicalDegradation, Draws
from lightbsr_arch.errors import UserError
from lightbsr_arch.models.blindsr_model import Losses, move_average
from lightbsr_arch.models.two_phase_model import TwoPhaseModel


@MODEL_REGISTRY.register()
class KDTeacherModel(TwoPhaseModel):
    """Trains a ``BlindSR`` with a teacher's estimator.

    KDSR (ICLR 2023), section 3.3: L1 alone. LightBSR (ICCV 2025), section 3.2: ``train.contrast_opt`` names a loss that
    contrasts degradations, alone during the first ``train.estimator_iter`` iterations, then together with the L1. Each
    ``num_patch`` neighbours of a batch then share a degradation: of one image with ``patches_per_item`` in
    ``datasets.train``, else of different images. The estimator sees all of them, each position in a pass of its own;
    the restorer sees only the first.

    Where the estimator wants a PCA of blur kernels that no checkpoint has brought, it is fitted to kernels drawn from
    ``degradation`` with the run's seed.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.contrast_opt: dict[str, Any] | None = (opt.get("train") or {}).get("contrast_opt")
        super().__init__(opt)

    # ------------------------------------------------------------------------------------------ setting up

    def model_to_device(self, net: Any) -> nn.Module:
        if self.contrast_opt is None and "embedding" in net.knows:  # which then nothing looks at
            self.opt["find_unused_parameters"] = True
        return super().model_to_device(net)

    def init_training_settings(self) -> None:
        self.estimator = self.get_bare_model(self.net_g).estimator
        if missing := self.estimator.missing():
            self._fit(missing)
        if self.contrast_opt is not None:
            self._init_contrast(self.contrast_opt)
        elif self.estimator_iter:
            raise UserError(
                "train.estimator_iter trains a teacher's estimator by contrast: train.contrast_opt is missing"
            )
        super().init_training_settings()

    def _fit(self, missing: str) -> None:
        weights = self.opt["path"].get("pretrain_network_g")
        if weights is not None:
            raise UserError(f"{weights}: {missing}")
        degradation = self.degradation
        if not isinstance(degradation, ClassicalDegradation):
            raise UserError(
                "network_g.estimator is told the blur kernel: degradation.type must be ClassicalDegradation"
            )
        if self.estimator.kernel_size != degradation.kernel_size:
            raise UserError(
                f"network_g.estimator.kernel_size is not degradation.kernel_size, {degradation.kernel_size}: make "
                "them equal"
            )
        generator = torch.Generator().manual_seed(self.opt["manual_seed"])
        number = self.estimator.fit(lambda number: degradation.sample(number, Draws(generator)).kernel, generator)
        get_root_logger().info(f"The teacher's PCA is fitted to {number} blur kernels.")

    def _init_contrast(self, contrast_opt: dict[str, Any]) -> None:
        if "embedding" not in self.estimator.knows:
            raise UserError("train.contrast_opt needs an estimator with an embedding: LightIDETeacher")
        self.cri_contrast = build_loss({"num_dim": self.estimator.idr_ch, **contrast_opt}).to(self.device)
        self.num_patch = self.cri_contrast.num_patch
        # Like its model, in training mode: keys are normalised by their own batch, as queries are.
        self.net_key = deepcopy(self.estimator).requires_grad_(False).train()

    # ------------------------------------------------------------------------------------------ training

    def losses(self, current_iter: int) -> Losses:
        alone = self.estimator_alone(current_iter)
        seen = self.extra_input(self.net_g)
        if self.contrast_opt is None:
            self.output = self.net_g(self.lq, *seen)
            return self.image_losses()
        self.output, known = self.net_g(
            self.lq, *seen, knowledge=["embedding"], restore=not alone, num_patch=self.num_patch
        )
        self.gt = self.gt[:: self.num_patch]  # of the patches that are restored
        with torch.no_grad():
            extra = seen[0] if seen else None
            keys = estimate_apart(self.net_key, self.lq, extra, self.num_patch)[1]["embedding"]
        self.new_keys = self.cri_contrast.new_keys(keys)
        losses = {} if alone else self.image_losses()
        return {**losses, "l_contrast": self.cri_contrast(known["embedding"], keys)}

    def optimize_parameters(self, current_iter: int) -> None:
        super().optimize_parameters(current_iter)
        if self.contrast_opt is not None and not self.skipped_in_a_row:
            self.cri_contrast.enqueue(self._of_all_processes(self.new_keys))
            move_average(self.net_key, self.estimator, self.cri_contrast.momentum)

    def _of_all_processes(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of every process, in the order in which a single one would have them."""
        if not self.opt["dist"]:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.opt["world_size"])]
        distributed.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    # ------------------------------------------------------------------------------------------ resuming

    def more_training_state(self) -> dict[str, Any]:
        state = super().more_training_state()
        if self.contrast_opt is not None:
            state["contrast"] = self.cri_contrast.state_dict()
            state["net_key"] = self.net_key.state_dict()
        return state

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        if self.contrast_opt is None:
            return
        try:
            self.cri_contrast.load_state_dict(resume_state["contrast"])
            self.net_key.load_state_dict(resume_state["net_key"])
        except (KeyError, RuntimeError):
            raise UserError(
                "the training state holds no queue of keys, or one of another size: train.contrast_opt must be that of "
                "the run that is resumed"
            ) from None
