"""Restoration with one IDR per shot of a video. The IDR is smoothed over the frames of the shot."""

from copy import deepcopy

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Estimator, Network
from lightbsr_arch.data.reader import Pixels
from lightbsr_arch.inference.changed_idr import ChangedIdr

SMOOTHING = 0.1
"""Weight of a new frame in the exponential average of the IDR."""

LEAST_CHANGE = 0.06
"""At a cut, the mean difference between the pixels of two thumbnails is at least this share of the range."""

LEAST_RATIO = 3.0
"""At a cut, this difference is also at least this multiple of its mean in the shot so far."""

_THUMBNAIL = (32, 18)
"""Width and height of the thumbnails that are compared."""


class CutDetector:
    """Finds the first frames of shots.

    Frames are shrunk to thumbnails of 32x18 pixels. A frame starts a shot if the mean absolute difference between its
    thumbnail and the one before it reaches `LEAST_CHANGE`, and `LEAST_RATIO` times the mean of these differences in
    the shot so far. The second condition ignores fast motion, which changes every frame. The second frame of a shot
    never starts another one.
    """

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._changes: list[float] = []

    def is_cut(self, frame: Pixels) -> bool:
        """Return whether a frame, H x W x 3 uint8 or uint16, starts a shot. The first frame does."""
        full = np.iinfo(frame.dtype).max
        thumbnail = cv2.resize(frame, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32) / full
        before, self._before = self._before, thumbnail
        if before is None:
            return True
        change = float(np.abs(thumbnail - before).mean())
        if self._changes and change >= max(LEAST_CHANGE, LEAST_RATIO * float(np.mean(self._changes))):
            self._changes = []
            return True
        self._changes.append(change)
        return False


class SmoothedEstimator(ChangedIdr):
    """An estimator whose IDR is averaged over the frames of a shot, so that the restoration does not flicker.

    During the first ``1 / SMOOTHING`` frames, the average is the plain mean. After them, it is an exponential average.
    If the IDR is a map, only its mean over the frame is averaged. The differences from this mean are those of the
    frame itself, because the content moves.

    Args:
        estimator: the estimator of single frames.
    """

    def __init__(self, estimator: Estimator) -> None:
        super().__init__(estimator)
        self.start_shot()

    def start_shot(self) -> None:
        """Start the average again."""
        self._mean: torch.Tensor | None = None
        self._frames = 0

    def change(self, idr: torch.Tensor) -> torch.Tensor:
        vector = as_vector(idr)
        self._frames += 1
        weight = max(1 / self._frames, SMOOTHING)
        self._mean = vector if self._mean is None else self._mean + weight * (vector - self._mean)
        shift = self._mean - vector
        return idr + (shift if idr.dim() == 2 else shift[:, :, None, None])


class ShotModel:
    """Selects the network for each frame of a video. The frames are given in their order.

    Args:
        model: from `load_student`. A network without an IDR restores each frame independently.
    """

    def __init__(self, model: Network) -> None:
        self.network = model
        self.shots = 0
        self._cuts = CutDetector()
        self._smoothed: SmoothedEstimator | None = None
        if isinstance(model, BlindSR):
            self.network = deepcopy(model)
            self._smoothed = SmoothedEstimator(model.estimator)
            self.network.estimator = self._smoothed

    def for_frame(self, frame: Pixels) -> Network:
        """Return the network for the next frame. If the frame starts a shot, the average of the IDR starts again."""
        if self._cuts.is_cut(frame):
            self.shots += 1
            if self._smoothed:
                self._smoothed.start_shot()
        return self.network
