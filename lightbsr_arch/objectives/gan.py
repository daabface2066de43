"""The GAN stage: a discriminator that learns to distinguish restored images from real ones."""

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from msgspec import Meta
from torch import nn

from lightbsr_arch.objectives.base import OBJECTIVE_REGISTRY, Knowledge, Losses, Objective, TrainedModel
from lightbsr_arch.option_types.problems import Finding
from lightbsr_arch.option_types.schema import GanOptions, GanPathOptions, GanTrainOptions
from lightbsr_arch.option_types.sections import section
from lightbsr_arch.training_state import resume_scaler


def discriminator_checks(options: dict[str, Any]) -> Iterator[Finding]:
    """Find what ``train.gan_opt`` lacks, in options of any structure."""
    if "network_d" not in options:
        yield Finding(("network_d",), "missing-key", "missing; train.gan_opt needs a discriminator")
    if "optim_d" not in section(options, "train"):
        yield Finding(("train", "optim_d"), "missing-key", "missing; train.gan_opt needs a discriminator's optimiser")


@OBJECTIVE_REGISTRY.register()
class Adversarial(Objective):
    """Trains against ``network_d``, with the steps of BasicSR's RealESRGANModel.

    The GAN begins after the phase that trains only the estimator. The first ``net_d_init_iters`` iterations of the GAN
    train only the discriminator. Later, only every ``net_d_iters``-th iteration trains ``network_g`` too. The real
    images are the ground truth before any sharpening. With ``gan_gt_usm`` they are the ground truth of the other
    losses.
    """

    option = "gan_opt"
    of_image = True
    Options = GanOptions
    PathOptions = GanPathOptions

    class TrainOptions(GanTrainOptions, kw_only=True):
        gan_gt_usm: Annotated[
            bool, Meta(description="sharpen the real images of the discriminator, as is done for the other losses")
        ] = False

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        train = section(options, "train")
        if cls.asked(options):
            yield from discriminator_checks(options)
        elif train:
            for key in (("network_d",), ("train", "optim_d"), ("path", "pretrain_network_d")):
                if section(options, *key[:-1]).get(key[-1]) is not None:
                    yield Finding(
                        key,
                        "needs-gan-loss",
                        "is for the GAN stage, but train.gan_opt is missing; add it, or remove this",
                    )

    # ------------------------------------------------------------------------------------------ setting up

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        self.net_d = self._build_discriminator()
        self.cri_gan = build_loss(self.opt).to(model.device)
        self.scaler_d = torch.amp.GradScaler(model.device.type, enabled=model.amp_dtype is torch.float16)

    def _build_discriminator(self) -> nn.Module:
        model, path = self.model, self.model.opt["path"]
        net = model.model_to_device(build_network(model.opt["network_d"]))
        model.print_network(net)
        if path.get("pretrain_network_d") is not None:
            strict, key = path.get("strict_load_d", True), path.get("param_key_d", "params")
            model.load_network(net, path["pretrain_network_d"], strict, key)
        return net.train()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        arguments = dict(self.model.opt["train"]["optim_d"])
        self.optimizer_d = self.model.get_optimizer(arguments.pop("type"), self.net_d.parameters(), **arguments)
        return [self.optimizer_d]

    # ------------------------------------------------------------------------------------------ training

    def learns(self, current_iter: int) -> bool:
        train_opt = self.model.opt["train"]
        is_late_enough = current_iter - self.model.estimator_iter > train_opt.get("net_d_init_iters", 0)
        learns_now: bool = is_late_enough and current_iter % train_opt.get("net_d_iters", 1) == 0
        return learns_now

    def losses(self, known: Knowledge) -> Losses:
        self.net_d.requires_grad_(False)  # until the discriminator's own step
        restored = self.model.textured(self.model.output, self._real())
        return {"l_gan": self.cri_gan(self.net_d(restored).float(), True, is_disc=False)}

    def _real(self) -> torch.Tensor:
        model = self.model
        return model.first_patches(model.gt if model.opt["train"].get("gan_gt_usm", False) else model.gt_plain)

    def after_step(self, *, learnt: bool) -> str | None:
        """Train the discriminator."""
        model = self.model
        real = self._real()
        losses: Losses = {}
        self.net_d.requires_grad_(True)
        self.optimizer_d.zero_grad()
        for name, images in (("real", real), ("fake", model.textured(model.output.detach(), real))):
            with model.autocast():
                verdict = self.net_d(images).float()
                losses[f"l_d_{name}"] = loss = self.cri_gan(verdict, name == "real", is_disc=True)
            self.scaler_d.scale(loss).backward()  # one loss at a time, which halves the memory
            model.logged[f"out_d_{name}"] = verdict.detach().mean()
        return model.take_step(self.optimizer_d, self.scaler_d, losses, largest=None)

    # ------------------------------------------------------------------------------------------ saving and resuming

    def networks(self) -> dict[str, nn.Module]:
        return {"net_d": self.net_d}

    def state(self) -> dict[str, Any]:
        return {"scaler_d": self.scaler_d.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        resume_scaler(self.scaler_d, state.get("scaler_d", {}))
