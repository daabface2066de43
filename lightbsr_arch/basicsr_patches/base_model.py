"""The base class of this package's models."""

from typing import Any

from basicsr.models.sr_model import SRModel

from lightbsr_arch.basicsr_patches.checkpoints import CheckpointMethods
from lightbsr_arch.basicsr_patches.devices import DeviceMethods
from lightbsr_arch.basicsr_patches.niqe import patched_niqe
from lightbsr_arch.basicsr_patches.pictures import patched_pictures
from lightbsr_arch.basicsr_patches.vgg import patched_vgg


class PatchedSRModel(CheckpointMethods, DeviceMethods, SRModel):
    """BasicSR's SRModel with the corrections of this package. BasicSR itself is unchanged."""

    def init_training_settings(self) -> None:
        with patched_vgg():
            super().init_training_settings()

    def more_training_state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides networks, optimisers and schedulers."""
        return {}

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        with patched_niqe(), patched_pictures():
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
