"""Inspection of picture files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.analysis.inspection import Inspector, Reading
from lightbsr_arch.analysis.jpeg_quality import file_quality
from lightbsr_arch.data.picture_files import PictureFile
from lightbsr_arch.data.reader import Pixels, read_input, read_picture


@dataclass
class Inspected:
    """The outcome of one picture file.

    Attributes:
        input: path of the file.
        reason: the reason why it could not be inspected, or why its map could not be written; None without a failure.
        size: width and height.
        file_quality: quality of a JPEG file by its quantisation tables, or None for other files and tables.
        reading: the degradation. It is kept if only the map failed.
        notices: one line for each part of the file that the estimates ignore.
    """

    input: str
    reason: str | None = None
    size: tuple[int, int] | None = None
    file_quality: int | None = None
    reading: Reading | None = None
    notices: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"input": self.input, "status": "failed" if self.reason else "done"}
        if self.reason:
            found["reason"] = self.reason
        if self.reading is None:
            return found
        estimates = {name: one and one._asdict() for name, one in self.reading.estimates.items()}
        return {
            **found,
            "size": self.size,
            **estimates,
            "file_quality": self.file_quality,
            "distance": round(self.reading.distance, 3),
            "unlike_training": self.reading.unlike,
            "model": self.reading.model,
            "why": self.reading.why,
            "notices": self.notices,
        }


def inspect_files(
    pictures: Sequence[PictureFile],
    inspector: Inspector,
    *,
    write_map: Callable[[PictureFile, Pixels, NDArray[np.float64]], None] | None = None,
    report: Callable[[Inspected], None] = lambda one: None,
) -> list[Inspected]:
    """Inspect picture files. A picture that cannot be inspected is reported, and the others continue.

    Args:
        pictures: from `find_pictures`; the path "-" is standard input.
        inspector: estimates their degradation.
        write_map: receives each picture, its pixels and the distances of its tiles.
        report: receives each outcome.
    """
    outcomes = []
    for picture in pictures:
        one = Inspected(str(picture.path))
        try:
            if picture.problem:
                raise UserError(picture.problem)
            name, data = read_input(picture.path)
            read = read_picture(data, name)
            one.size = read.pixels.shape[1], read.pixels.shape[0]
            one.file_quality = file_quality(data)
            one.notices = read.notices
            idrs = inspector.idrs(read.pixels)
            one.reading = inspector.reading_of(idrs, one.file_quality)
            if write_map:
                write_map(picture, read.pixels, inspector.tile_distances(read.pixels, idrs))
        except Exception as error:  # any error of one picture must not stop the others
            one.reason = reason_of(error, picture.path)
        outcomes.append(one)
        report(one)
    return outcomes
