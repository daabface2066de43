"""Loading of batches in advance by a thread."""

import pytest
from basicsr.data import build_dataloader
from torch.utils.data import Dataset

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.prefetching import patched_prefetching


def test_error_of_the_thread_that_loads_ahead_reaches_the_trainer() -> None:
    class Broken(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            if index == 2:
                raise UserError("picture 2 is broken")
            return index

    options = {"phase": "val", "prefetch_mode": "cpu"}
    with patched_prefetching():
        batches = iter(build_dataloader(Broken(), options))
    assert [next(batches).item() for _ in range(2)] == [0, 1]
    with pytest.raises(UserError, match="picture 2"):
        next(batches)
