"""The one place that knows where BasicSR 1.4.2 and today's libraries disagree."""

import importlib.util
import sys
import types


def install() -> None:
    """Make ``import basicsr`` work; called once, when the package is imported."""
    _provide_functional_tensor()


def _provide_functional_tensor() -> None:
    """torchvision 0.17 removed ``transforms.functional_tensor``, of which BasicSR wants one function."""
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name)
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
