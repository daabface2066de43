"""Loading ahead in a thread, ``prefetch_mode: cpu``."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from basicsr.data import prefetch_dataloader


class PrefetchGenerator(prefetch_dataloader.PrefetchGenerator):
    """BasicSR's thread that loads ahead. Its error is raised by the call that asks for the next batch."""

    error: BaseException | None = None

    def run(self) -> None:
        try:
            for item in self.generator:
                self.queue.put(item)
        except BaseException as error:
            self.error = error
        self.queue.put(None)

    def __next__(self) -> Any:
        item = self.queue.get()
        if item is None:
            raise self.error or StopIteration
        return item


def patched_prefetching() -> AbstractContextManager[Any]:
    """Make BasicSR's loaders raise what their thread raises."""
    # BasicSR's thread ends silently at an error, and the trainer waits for the next batch for ever.
    return patch.object(prefetch_dataloader, "PrefetchGenerator", PrefetchGenerator)
