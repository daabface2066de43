"""The import of BasicSR on current versions of torchvision."""

import importlib.util
import sys
import types


def provide_functional_tensor() -> None:
    """Add the module that BasicSR imports, if torchvision does not have it."""
    # BasicSR imports `rgb_to_grayscale` from torchvision.transforms.functional_tensor, which torchvision 0.17 removed.
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name)
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
