"""All corrections at once, for models of any package."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from basicsr.models.base_model import BaseModel

from lightbsr_arch.basicsr_patches.checkpoints import CheckpointMethods
from lightbsr_arch.basicsr_patches.devices import DeviceMethods
from lightbsr_arch.basicsr_patches.niqe import patched_niqe
from lightbsr_arch.basicsr_patches.pictures import patched_pictures
from lightbsr_arch.basicsr_patches.prefetching import patched_prefetching
from lightbsr_arch.basicsr_patches.vgg import patched_vgg


@contextmanager
def patched_basicsr() -> Iterator[None]:
    """Apply all corrections to BasicSR within the block, and undo them at its end."""
    methods = {
        name: method
        for mixin in (CheckpointMethods, DeviceMethods)
        for name, method in vars(mixin).items()
        if not name.startswith("_")
    }
    with patch.multiple(BaseModel, **methods), patched_prefetching(), patched_vgg(), patched_niqe(), patched_pictures():
        yield
