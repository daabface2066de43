"""KDSR and LightBSR for programs built on spandrel, which then load their weights as they load any other.

    import lightbsr_arch.spandrel_plugin
    lightbsr_arch.spandrel_plugin.install()

spandrel looks for no plug-ins itself, so a program says this once, before it loads a model.
"""

import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import canonical_names, recognise
from lightbsr_arch.inference.upscaler import upscale
from lightbsr_arch.stored_network import refuse_teacher

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchSupport,
        ImageModelDescriptor,
        ModelTiling,
        StateDict,
        UnsupportedModelError,
    )
except ImportError as error:
    raise ImportError("the spandrel plug-in needs spandrel: pip install 'lightbsr-arch[spandrel]'") from error


class BlindSRArch(Architecture[BlindSR]):
    """Networks with one of our restorers; the estimator may be either.

    Args:
        id: the system's name.
        restorer_key: the name of a tensor that no other restorer has.
    """

    def __init__(self, id: str, restorer_key: str) -> None:
        super().__init__(id=id, detect=self._is_ours)
        self._keys = {"estimator.features.0.weight", restorer_key}

    def _is_ours(self, state_dict: StateDict) -> bool:
        return self._keys <= canonical_names({str(key): value for key, value in state_dict.items()}).keys()

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[BlindSR]:
        """Raises `UnsupportedModelError` for a teacher's weights, and for tensors that do not fit together."""
        try:
            checkpoint = recognise(state_dict, self.name)
            model = checkpoint.build()
            refuse_teacher(model, self.name)
        except UserError as error:
            raise UnsupportedModelError(str(error)) from None
        sizes = {"num_feat": "nf", "num_group": "ng", "num_block": "nb"}
        restorer = checkpoint.network["restorer"]
        return ImageModelDescriptor(
            model,
            checkpoint.state,
            architecture=self,
            purpose="SR",
            tags=[f"{restorer[key]}{tag}" for key, tag in sizes.items() if key in restorer],
            supports_half=True,
            supports_bfloat16=True,
            scale=model.scale,
            input_channels=3,
            output_channels=3,
            # A tile run alone would get a degradation of its own; this works in strips under the whole picture's.
            tiling=ModelTiling.INTERNAL,
            call_fn=_run,
        )


def _run(model: BlindSR, image: torch.Tensor) -> torch.Tensor:
    return upscale(image, model)


def install(*, ignore_duplicates: bool = False) -> list[ArchSupport]:
    """Add "KDSR" and "LightBSR" to spandrel's main registry, which every ``ModelLoader`` uses unless given another.

    Args:
        ignore_duplicates: leave what is there of these names, instead of spandrel's ``DuplicateArchitectureError``.

    Returns:
        What was added.
    """
    architectures = (
        BlindSRArch("KDSR", "restorer.body.0.ddc.kernel.0.weight"),
        BlindSRArch("LightBSR", "restorer.to_channel_guide.weight"),
    )
    supports = [ArchSupport.from_architecture(architecture) for architecture in architectures]
    return MAIN_REGISTRY.add(*supports, ignore_duplicates=ignore_duplicates)
