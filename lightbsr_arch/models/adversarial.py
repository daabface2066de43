"""The GAN stage: a discriminator learns to tell restored images from real ones, and the network to pass for real."""

from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from torch import nn

from lightbsr_arch.models.blindsr_model import Losses
from lightbsr_arch.models.two_phase_model import TwoPhaseModel
from lightbsr_arch.training_state import resume_scaler


class AdversarialModel(TwoPhaseModel):
    """Trains against ``network_d`` where ``train.gan_opt`` asks for it, step by step as BasicSR's RealESRGANModel.

    The GAN begins where the phase of the estimator alone ends. From there, the first ``net_d_init_iters`` iterations
    train the discriminator alone, and so do all but every ``net_d_iters``-th. The real images are the ground truth
    before any sharpening or, with ``gan_gt_usm``, as the other losses see it.
    """

    net_d: nn.Module | None = None

    # ------------------------------------------------------------------------------------------ setting up

    def init_training_settings(self) -> None:
        if self.opt["train"].get("gan_opt"):
            self.net_d = self._build_discriminator()
            self.cri_gan = build_loss(self.opt["train"]["gan_opt"]).to(self.device)
            self.scaler_d = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        super().init_training_settings()

    def _build_discriminator(self) -> nn.Module:
        net = self.model_to_device(build_network(self.opt["network_d"]))
        self.print_network(net)
        path = self.opt["path"]
        if path.get("pretrain_network_d") is not None:
            strict, key = path.get("strict_load_d", True), path.get("param_key_d", "params")
            self.load_network(net, path["pretrain_network_d"], strict, key)
        return net.train()

    def setup_optimizers(self) -> None:
        super().setup_optimizers()
        if self.net_d is not None:
            optim = dict(self.opt["train"]["optim_d"])
            self.optimizer_d = self.get_optimizer(optim.pop("type"), self.net_d.parameters(), **optim)
            self.optimizers.append(self.optimizer_d)

    # ------------------------------------------------------------------------------------------ training

    def update_weights(self, current_iter: int) -> str | None:
        if self.net_d is None or current_iter <= self.estimator_iter:
            return super().update_weights(current_iter)
        train_opt = self.opt["train"]
        is_late_enough = current_iter - self.estimator_iter > train_opt.get("net_d_init_iters", 0)
        if is_late_enough and current_iter % train_opt.get("net_d_iters", 1) == 0:
            self.net_d.requires_grad_(False)
            fault = super().update_weights(current_iter)
            self.net_d.requires_grad_(True)
            if fault is not None:
                return fault  # nor is there anything to learn from its output
        else:
            with torch.no_grad(), self.autocast():
                self.output = self.net_g(self.lq)
        return self._update_discriminator(self.net_d)

    def image_losses(self) -> Losses:
        losses = super().image_losses()
        if self.net_d is not None:
            losses["l_gan"] = self.cri_gan(self.net_d(self.output).float(), True, is_disc=False)
        return losses

    def _update_discriminator(self, net_d: nn.Module) -> str | None:
        real = self.gt if self.opt["train"].get("gan_gt_usm", False) else self.gt_plain
        losses: Losses = {}
        self.optimizer_d.zero_grad()
        for name, images in (("real", real), ("fake", self.output.detach())):
            with self.autocast():
                verdict = net_d(images).float()
                losses[f"l_d_{name}"] = loss = self.cri_gan(verdict, name == "real", is_disc=True)
            self.scaler_d.scale(loss).backward()  # one at a time, which halves the memory
            self.logged[f"out_d_{name}"] = verdict.detach().mean()
        return self._step(self.optimizer_d, self.scaler_d, losses, largest=None)

    # ------------------------------------------------------------------------------------------ saving and resuming

    def save(self, epoch: int, current_iter: int) -> None:
        if self.net_d is not None:
            self.save_network(self.net_d, "net_d", current_iter)
        super().save(epoch, current_iter)

    def more_training_state(self) -> dict[str, Any]:
        state = super().more_training_state()
        if self.net_d is not None:
            state["scaler_d"] = self.scaler_d.state_dict()
        return state

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        if self.net_d is not None:
            resume_scaler(self.scaler_d, resume_state.get("scaler_d", {}))
