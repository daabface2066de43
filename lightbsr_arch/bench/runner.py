"""Run of a bench. It computes all figures that are missing in the cache, and stores each at once."""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils import tensor2img
from tqdm import tqdm

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.bench.cache import Cache, cache_key
from lightbsr_arch.bench.config import Bench
from lightbsr_arch.bench.cost import measure_apart
from lightbsr_arch.bench.machine import describe
from lightbsr_arch.bench.metrics import PYIQA_LICENCE, find_metric, unavailable
from lightbsr_arch.bench.models import ModelSpec, Upscaler
from lightbsr_arch.bench.pairs import Condition, Pair, Pairs, RealPairs, content
from lightbsr_arch.bench.results import Place, Results
from lightbsr_arch.data.image_io import Picture, encode_image

CROP = 128
"""Side of the crops in the viewer, in HR pixels."""

Measured = dict[str, float | Exception]
"""Metrics by name. If a metric does not apply to the picture, its value is a UserError; if it fails, the exception.
"""


@dataclass(frozen=True)
class _Job:
    """One LR image with the missing metrics and crops of each model."""

    pairs: Pairs | RealPairs
    condition: Condition
    index: int
    image: str
    box: tuple[int, int] | None
    wanted: dict[str, list[str]]

    @property
    def place(self) -> Place:
        return (self.pairs.dataset, self.pairs.degradation, self.condition.name, self.index)


class Runner:
    """Runs a bench once.

    Args:
        bench: models, data sets and degradations.
        cache: results of this and earlier runs.
        device: device of the networks.
    """

    def __init__(self, bench: Bench, cache: Cache, device: torch.device) -> None:
        self.bench, self.cache, self.device = bench, cache, device
        self.results = Results()
        reasons = {name: unavailable(name) for name in bench.metrics}
        self.metrics = [name for name, reason in reasons.items() if reason is None]
        self.results.notes += [reason for reason in reasons.values() if reason is not None]
        if names := [name for name in self.metrics if find_metric(name).version]:
            text = f"{', '.join(names)}: by pyiqa, on whole pictures; for non-commercial use only ({PYIQA_LICENCE})"
            self.results.notes.append(text)
        self.digests: dict[str, str] = {}
        self.specs: dict[str, ModelSpec] = {}
        for spec in bench.models:
            try:
                self.digests[spec.name] = spec.digest()
                self.specs[spec.name] = spec
            except OSError as error:
                self.results.broken[spec.name] = f"{spec.weights}: cannot be read: {error.strerror}"
        self._loaded: dict[str, Upscaler] = {}

    def run(self) -> Results:
        """Run the bench. Latency is measured last, so that nothing else runs at the same time."""
        jobs = list(self._plan())
        total = sum(len(job.wanted) for job in jobs)
        with tqdm(total=total, desc="pictures", unit="", disable=not total) as progress, ThreadPoolExecutor() as pool:
            pending: deque[tuple[str, _Job, Future[Measured]]] = deque()
            for job in jobs:
                for model, result in self._upscale(job, pool):
                    pending.append((model, job, result))
                    while len(pending) > 4:
                        self._collect(*pending.popleft())
                progress.update(len(job.wanted))
            while pending:
                self._collect(*pending.popleft())
        if self.bench.idr:
            self._measure_idrs()
        if self.bench.cost:
            self._measure_costs()
        return self.results

    # ------------------------------------------------------------------------------------------ pictures

    def _plan(self) -> Iterator[_Job]:
        """Take known values from the cache. Yield the missing work."""
        images: dict[tuple[str, int], tuple[str, tuple[int, int]]] = {}
        for pairs in self.bench.pairs:
            shown = pairs.conditions[len(pairs.conditions) // 2]
            for index in range(len(pairs.images)):
                try:
                    if (pairs.dataset, index) not in images:
                        hr = pairs.hr(index)
                        images[pairs.dataset, index] = pairs.fingerprint(index, hr), most_detailed(hr, self.bench.scale)
                except Exception as error:  # no error of one picture may stop the others
                    for condition in pairs.conditions:
                        place = (pairs.dataset, pairs.degradation, condition.name, index)
                        self.results.failures[None, place] = reason_of(error)
                    continue
                image, box = images[pairs.dataset, index]
                for condition in pairs.conditions:
                    crop = box if index < self.bench.crops and condition is shown else None
                    job = _Job(pairs, condition, index, image, crop, {})
                    for model in self.specs:
                        if missing := self._take_known(model, job):
                            job.wanted[model] = missing
                    if job.wanted or job.box:
                        yield job

    def _take_known(self, model: str, job: _Job) -> list[str]:
        """Take values from the cache, and return the names of the missing ones."""
        found = {name: self.cache.get(self._metric_key(model, job, name)) for name in self.metrics}
        known = {name: value["value"] for name, value in found.items() if value is not None}
        self.results.values[model, job.place] = known
        missing = [name for name in self.metrics if name not in known]
        if job.box:
            crop = self.cache.get(self._key(model, job, "crop", job.box, CROP))
            if crop is None:
                missing.append("crop")
            else:
                self.results.crops.setdefault(job.place, {})[model] = crop
        return missing

    def _metric_key(self, model: str, job: _Job, name: str) -> str:
        version = find_metric(name).version
        return self._key(model, job, name, *([] if version is None else [version]))

    def _key(self, model: str, job: _Job, *what: Any) -> str:
        seed = job.index if job.condition.random else None
        scale, device = self.bench.scale, self.device.type
        return cache_key(self.digests[model], job.image, job.condition.digest, seed, scale, device, *what)

    def _upscale(self, job: _Job, pool: ThreadPoolExecutor) -> Iterator[tuple[str, Future[Measured]]]:
        """Run every model with a missing value on one LR image. Threads compute the metrics at the same time."""
        try:
            pair = job.pairs.make(job.index, job.condition)
            hr = tensor2img(pair.gt)
            if job.box:
                self._keep_crops(job, pair, hr)
        except Exception as error:  # no error of one picture may stop the others
            self.results.failures[None, job.place] = reason_of(error)
            return
        for model, wanted in job.wanted.items():
            sr = self._try(model, job, pair)
            if sr is None:
                continue
            self.results.computed += 1
            if "crop" in wanted and job.box:
                crop = encode_image(_cut(sr, *job.box), "webp")
                self.cache.put(self._key(model, job, "crop", job.box, CROP), crop)
                self.results.crops.setdefault(job.place, {})[model] = crop
            metrics = [name for name in wanted if name != "crop"]
            yield model, pool.submit(_measure, metrics, sr, hr, self.bench.scale)

    def _try(self, model: str, job: _Job, pair: Pair) -> Picture | None:
        """Return the SR picture. If the model fails, store the reason in the results and return None."""
        if model in self.results.broken:
            return None
        try:
            if model not in self._loaded:
                self._loaded[model] = self.specs[model].load(self.bench.scale, self.device)
        except Exception as error:
            self.results.broken[model] = reason_of(error)
            return None
        try:
            pixels: Picture | None = tensor2img(self._loaded[model](pair))
            return pixels
        except Exception as error:
            self.results.failures[model, job.place] = reason_of(error)
            return None

    def _collect(self, model: str, job: _Job, result: Future[Measured]) -> None:
        for name, value in result.result().items():
            if isinstance(value, float):
                self.cache.put(self._metric_key(model, job, name), {"value": value})
                self.results.values[model, job.place][name] = value
            elif not isinstance(value, UserError):
                self.results.failures[model, job.place] = f"{find_metric(name).label}: {reason_of(value)}"
            elif str(value) not in self.results.notes:
                self.results.notes.append(str(value))

    def _keep_crops(self, job: _Job, pair: Pair, hr: Picture) -> None:
        """Keep the crops of LR and HR for the viewer."""
        assert job.box is not None
        scale = self.bench.scale
        top, left = (start // scale for start in job.box)
        small = _cut(tensor2img(pair.lq), top, left, CROP // scale)
        shown = self.results.crops.setdefault(job.place, {})
        shown["LR"], shown["HR"] = encode_image(small, "webp"), encode_image(_cut(hr, *job.box), "webp")

    # ------------------------------------------------------------------------------------------ IDR

    def _measure_idrs(self) -> None:
        """Measure the IDRs on the first data set without its own LR images."""
        from lightbsr_arch.bench.idr import CROP as IDR_CROP
        from lightbsr_arch.bench.idr import CROPS, measure_idr

        pairs = next((pairs for pairs in self.bench.pairs if isinstance(pairs, Pairs)), None)
        if pairs is None:
            self.results.notes.append("IDRs need HR pictures to degrade; every data set has its own LR pictures")
            return
        images = [content(pairs.source.read(index)) for index in self._readable(pairs)]
        for name, spec in self.specs.items():
            if not spec.is_ours or spec.self_ensemble or name in self.results.broken:
                continue
            key = cache_key(self.digests[name], "idr", pairs.scale, images, IDR_CROP, CROPS)
            figures = self.cache.get(key)
            try:
                if figures is None:
                    figures = measure_idr(spec, pairs)
                    self.cache.put(key, figures)
            except UserError as error:
                self.results.notes.append(f"IDR of {name}: {error}")
                continue
            self.results.idrs[name] = {**figures, "dataset": pairs.dataset}

    def _readable(self, pairs: Pairs) -> Iterator[int]:
        conditions = pairs.conditions
        for index in range(len(pairs.images)):
            if (None, (pairs.dataset, pairs.degradation, conditions[0].name, index)) not in self.results.failures:
                yield index

    # ------------------------------------------------------------------------------------------ cost

    def _measure_costs(self) -> None:
        machine = describe(self.device)
        keys = {model: cache_key(digest, "cost", self.bench.scale, machine) for model, digest in self.digests.items()}
        known = {model: self.cache.get(key) for model, key in keys.items()}
        self.results.costs.update({model: cost for model, cost in known.items() if cost is not None})
        unknown = [model for model, cost in known.items() if cost is None and model not in self.results.broken]
        for model in tqdm(unknown, desc="costs", unit="model", disable=not unknown):
            try:
                cost = measure_apart(self.specs[model], self.bench.scale, self.device)
            except UserError as error:
                self.results.costs[model] = str(error)
                continue
            self.cache.put(keys[model], cost)
            self.results.costs[model] = cost


def most_detailed(hr: Picture, scale: int, crop: int = CROP) -> tuple[int, int]:
    """Return top and left, multiples of the scale, of the crop with the strongest edges."""
    grey = cv2.cvtColor(hr, cv2.COLOR_BGR2GRAY)
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    height, width = grey.shape
    side = min(crop, height, width)
    sums = cv2.integral(edges)
    tops, lefts = (np.arange(0, size - side + 1, scale) for size in (height, width))
    below, right = tops + side, lefts + side
    strength = sums[below][:, right] - sums[tops][:, right] - sums[below][:, lefts] + sums[tops][:, lefts]
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    return int(tops[row]), int(lefts[column])


def _measure(metrics: list[str], sr: Picture, hr: Picture, scale: int) -> Measured:
    values: Measured = {}
    for name in metrics:
        try:
            value = float(find_metric(name).compute(sr, hr, scale))
            if math.isnan(value):
                raise UserError(
                    f"{find_metric(name).label} is not defined for a picture of {hr.shape[1]}x{hr.shape[0]}"
                )
            values[name] = value
        except Exception as error:
            values[name] = error
    return values


def _cut(picture: Picture, top: int, left: int, side: int = CROP) -> Picture:
    return np.ascontiguousarray(picture[top : top + side, left : left + side])
