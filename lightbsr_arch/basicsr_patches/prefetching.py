"""Loading of batches in advance by a thread (``prefetch_mode: cpu``)."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from basicsr.data import prefetch_dataloader


class PrefetchGenerator(prefetch_dataloader.PrefetchGenerator):
    """BasicSR's thread that loads in advance. The request for the next batch raises the error of the thread."""

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
    """Make BasicSR's loaders raise the errors of their thread."""
    # After an error, BasicSR's thread ends without a message, and the trainer waits for the next batch for ever.
    return patch.object(prefetch_dataloader, "PrefetchGenerator", PrefetchGenerator)
