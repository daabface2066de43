"""Restored images that a validation saves."""

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
from basicsr.models import sr_model

from lightbsr.errors import UserError
from lightbsr.names import LONGEST_PART, unsafe_name
from lightbsr_arch.io import write_whole


class PictureWriter:
    """Saves images as BasicSR's ``imwrite`` does, but only inside the given folder.

    A number is added to the name of a second image of the same name, so that no image of a run replaces another.
    """

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()

    def __call__(self, img: Any, file_path: str) -> None:
        """Write an H x W x 3 uint8 BGR image. The file is complete or not written.

        Raises:
            UserError: the name is not valid for a file, or the file cannot be written.
        """
        path = Path(file_path)
        for part in path.parts[-2:]:
            fault = unsafe_name(part, LONGEST_PART)
            if fault is not None:
                raise UserError(f"a picture cannot be saved as {part[:200]!r}, which {fault}; give it another name")
        self._written[file_path] += 1
        if self._written[file_path] > 1:
            path = path.with_name(f"{path.stem}-{self._written[file_path]}{path.suffix}")
        write_whole(path, cv2.imencode(path.suffix, img)[1].tobytes(), make_folder=True)


_write = PictureWriter()


def patched_pictures() -> AbstractContextManager[Any]:
    """Make BasicSR's SRModel save images by a ``PictureWriter``, which is the same for the whole process."""
    # BasicSR writes to any path that an image's name contains, and replaces an older image of that name. An
    # interrupted program leaves an incomplete file.
    return patch.object(sr_model, "imwrite", _write)
