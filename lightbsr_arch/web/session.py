"""Upscaling of uploaded pictures, independent of the page."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from lightbsr.errors import UserError, reason_of
from lightbsr.shipped import default_name, students
from lightbsr_arch.analysis.inspected_files import Inspected, inspect_files
from lightbsr_arch.analysis.inspection import Chooser, Inspector
from lightbsr_arch.archs.part import Advance, Network
from lightbsr_arch.data.image_io import read_header, read_image
from lightbsr_arch.data.picture_files import PictureFile
from lightbsr_arch.inference.files import plan, upscale_files
from lightbsr_arch.inference.strength import with_checked_strength
from lightbsr_arch.inference.upscaler import load_student

AUTO = "auto"
"""Name under which `Chooser` chooses the weights, as in ``lightbsr upscale -m auto``."""

PREVIEW_SIDE = 1600
"""Longest side of the pictures that the page compares, in pixels. The downloaded file has its full size."""

KEPT_SECONDS = 24 * 3600
"""Age after which results are deleted."""


class Limits(NamedTuple):
    """Limits of an upload: bytes and pixels of a picture, and the number of pictures."""

    megabytes: float
    megapixels: float
    pictures: int


@dataclass(frozen=True)
class Result:
    """A picture that was upscaled.

    Attributes:
        name: name of the uploaded file.
        file: the upscaled picture.
        before: preview of the upload, enlarged bicubically to the size of ``after``.
        after: preview of the upscaled picture.
        text: the degradation of the upload.
    """

    name: str
    file: Path
    before: Path
    after: Path
    text: str


class Session:
    """Upscales uploaded pictures and writes the results into a folder.

    Args:
        folder: an existing folder.
        device: "auto", "cpu", "cuda" or "mps".
        limits: limits of an upload.
        describe: returns the text about an inspected picture.

    Raises:
        UserError: see `Inspector`.
    """

    def __init__(self, folder: Path, device: str, limits: Limits, describe: Callable[[Inspected], str]) -> None:
        self.limits = limits
        self.models = [*students(), AUTO]
        self.default = default_name()
        self._folder, self._device, self._describe = folder, device, describe
        self._inspector = Inspector(device)
        self._model = lru_cache(maxsize=4)(self._load)

    def upscale(
        self, uploads: Sequence[str | Path], model: str, strength: float, advance: Advance = lambda share: None
    ) -> tuple[list[Result], list[str]]:
        """Upscale pictures. A picture that fails is reported, and the others continue.

        Args:
            uploads: paths of the uploaded files.
            model: one of ``models``.
            strength: see `with_strength`.
            advance: receives the share of all the work that has been done since the last call.

        Returns:
            The results, and one line per failure and per part of a picture that was lost.

        Raises:
            UserError: there are no pictures or too many, or the model does not exist or has no such strength.
        """
        self._forget_old()
        if not uploads:
            raise UserError("add a picture first")
        if len(uploads) > self.limits.pictures:
            raise UserError(f"{len(uploads)} pictures; at most {self.limits.pictures} are upscaled at a time")
        if model not in self.models:
            raise UserError(f"{model}: not a shipped model; choose one of {', '.join(self.models)}")
        if model == AUTO and strength != 1:
            raise UserError(f"a strength needs one model; choose one instead of {AUTO}, or set the strength to 1")
        network, choose = self._model(model, strength)
        results, lines = [], []
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        for number, upload in enumerate(map(Path, uploads)):
            try:
                result, notices = self._upscale_one(
                    upload, folder / str(number), network, choose, lambda share: advance(share / len(uploads))
                )
                results.append(result)
                lines += [f"{upload.name}: {notice.removeprefix('-m auto: ')}" for notice in notices]
            except Exception as error:  # any error of one picture must not stop the others
                reason = reason_of(error).replace(f"{upload}: ", "").removeprefix(f"{upload.name}: ")
                lines.append(f"{upload.name}: failed: {reason}")
        return results, lines

    def _load(self, model: str, strength: float) -> tuple[Network, Chooser | None]:
        if model == AUTO:
            choose = Chooser(self._device, torch.float32)
            return choose.default, choose
        return with_checked_strength(load_student(model, self._device), strength), None

    def _upscale_one(
        self, upload: Path, folder: Path, network: Network, choose: Chooser | None, advance: Advance
    ) -> tuple[Result, list[str]]:
        self._check(upload)
        (job,) = plan([str(upload)], str(folder), suffix=f"_x{network.scale}")
        (outcome,) = upscale_files([job], network, choose=choose, advance=lambda _, share: advance(share))
        if outcome.reason:
            raise UserError(outcome.reason)
        (inspected,) = inspect_files([PictureFile(upload, upload.name, upload.stem)], self._inspector)
        text = f"failed: {inspected.reason}" if inspected.reason else self._describe(inspected)
        sr = read_image(outcome.output)
        height, width = sr.shape[:2]
        factor = min(1.0, PREVIEW_SIDE / max(height, width))
        size = max(1, round(width * factor)), max(1, round(height * factor))
        before, after = folder / "before.webp", folder / "after.webp"
        for preview, bgr in ((before, read_image(upload)), (after, sr)):
            rgb = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
            rgb.resize(size, Image.Resampling.BICUBIC).save(preview, quality=95)
        return Result(upload.name, Path(outcome.output), before, after, text), outcome.notices

    def _check(self, upload: Path) -> None:
        if (size := upload.stat().st_size / 1e6) > self.limits.megabytes:
            raise UserError(f"{size:.1f} MB; at most {self.limits.megabytes:g} MB are accepted")
        header = read_header(upload)
        if (count := header.height * header.width / 1e6) > self.limits.megapixels:
            raise UserError(
                f"{header.width}x{header.height} pixels, {count:.1f} megapixels; at most {self.limits.megapixels:g} "
                "are accepted"
            )

    def _forget_old(self) -> None:
        for folder in self._folder.iterdir():
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
