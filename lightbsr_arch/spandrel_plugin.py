"""Support for the networks of this package in programs that load models with spandrel.

    import lightbsr_arch.spandrel_plugin
    lightbsr_arch.spandrel_plugin.install()

spandrel does not search for plug-ins, so a program must call ``install`` once before it loads a model.
"""

import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs.blindsr_arch import BlindSR
from lightbsr_arch.archs.part import Restorer, needs_lq_only, registered
from lightbsr_arch.checkpoint import recognise
from lightbsr_arch.inference.upscaler import upscale
from lightbsr_arch.stored_network import read_off_shapes

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
    """Networks with a given registered restorer and any estimator.

    Args:
        restorer: name of the restorer.
        system: name of the system, which spandrel lists.
    """

    def __init__(self, restorer: str, system: str) -> None:
        super().__init__(id=system, detect=self._is_ours)
        self._restorer = restorer

    def _is_ours(self, state_dict: StateDict) -> bool:
        found = read_off_shapes({str(key): value for key, value in state_dict.items()})
        return found is not None and found.network.get("restorer", {}).get("type") == self._restorer

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[BlindSR]:
        """Load weights. Raise `UnsupportedModelError` for a teacher's weights and tensors that do not fit together."""
        try:
            checkpoint = recognise(state_dict, self.name)
            model = checkpoint.build()
            needs_lq_only(model, self.name)
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
            # Independent tiles would have different IDRs. This code uses strips with the IDR of the whole picture.
            tiling=ModelTiling.INTERNAL,
            call_fn=_run,
        )


def _run(model: BlindSR, image: torch.Tensor) -> torch.Tensor:
    return upscale(image, model)


def install(*, ignore_duplicates: bool = False) -> list[ArchSupport]:
    """Add the system of every restorer to spandrel's main registry, which ``ModelLoader`` uses unless given another.

    Args:
        ignore_duplicates: whether to keep an existing architecture of the same name, instead of raising spandrel's
            ``DuplicateArchitectureError``.

    Returns:
        The architectures that were added.
    """
    added: list[ArchSupport] = MAIN_REGISTRY.add(*supports(), ignore_duplicates=ignore_duplicates)
    return added


def supports() -> list[ArchSupport]:
    """Return the system of every restorer, for a registry other than the main one."""
    systems = {name: cls.system for name, cls in registered(Restorer).items() if cls.system}
    return [ArchSupport.from_architecture(BlindSRArch(*names)) for names in systems.items()]
