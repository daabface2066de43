"""Validation of data sets with several settings, and of those without ground truth."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from basicsr.data import build_dataloader
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY
from torch import nn

from lightbsr_arch.archs.part import EXTRA_INPUTS, extra_input
from lightbsr_arch.archs.window_padding import upscale_any_size
from lightbsr_arch.basicsr_patches.base_model import PatchedSRModel
from lightbsr_arch.data.degraded_dataset import DegradedDataset


class ValidatingModel(PatchedSRModel):
    """An SRModel that validates networks with extra inputs.

    Attributes:
        metrics_by_dataset: whether data sets without ground truth are validated with only the metrics that need none.
        lq: the batch's low-quality images, N x 3 x H x W.
        output: restored images; None in the phase that trains only the estimator.
    """

    metrics_by_dataset = True
    lq: torch.Tensor
    output: Any

    def extra_input(self, net: nn.Module) -> tuple[Any, ...]:
        """Return the input that ``net`` needs besides the low-quality images of the batch, or an empty tuple."""
        return extra_input(self.get_bare_model(net), {name: getattr(self, name, None) for name in EXTRA_INPUTS})

    def test(self) -> None:
        # Only the first process validates, so it uses the network without the wrapper that communicates with the
        # others.
        trained: Any = self.get_bare_model(self.net_g)
        net = getattr(self, "net_g_ema", trained)
        net.eval()
        with torch.inference_mode():
            self.output = upscale_any_size(net, self.lq, *self.extra_input(net))
        net.train(net is trained and self.is_train)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Run BasicSR's loop once per setting of the data set, and log the mean under the data set's name.

        A data set without ground truth is validated with only the metrics that need none.
        """
        dataset = getattr(dataloader.dataset, "wrapped", dataloader.dataset)
        if isinstance(dataset, SingleImageDataset):
            with self._without_gt():
                super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        if not isinstance(dataset, DegradedDataset):
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        results: list[dict[str, float]] = []
        for view in dataset.by_setting():
            loader = build_dataloader(view, view.opt)
            super().nondist_validation(loader, current_iter, tb_logger, save_img)
            results.append(getattr(self, "metric_results", {}))
        if not results[0]:
            return
        name = dataset.opt["name"]
        self.metric_results = {key: sum(result[key] for result in results) / len(results) for key in results[0]}
        self._initialize_best_metric_results(name)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)

    def _log_validation_metric_values(self, current_iter: Any, dataset_name: str, tb_logger: Any) -> None:
        super()._log_validation_metric_values(current_iter, dataset_name, tb_logger)
        for metric, value in self.metric_results.items():
            if math.isnan(value):
                text = f"val.metrics.{metric} is no number on {dataset_name}: the restored pictures are not finite, or"
                get_root_logger().warning(f"{text} crop_border leaves no pixels of one of them")

    @contextmanager
    def _without_gt(self) -> Iterator[None]:
        self.__dict__.pop("gt", None)  # BasicSR would compare with that of the last training batch
        val = self.opt["val"]
        every = val.get("metrics")
        kept = {name: of for name, of in (every or {}).items() if not compares_with_gt(METRIC_REGISTRY.get(of["type"]))}
        val["metrics"] = kept or None
        self.__dict__.pop("metric_results", None)  # its keys include the metrics that are left out
        try:
            yield
        finally:
            self.__dict__.pop("metric_results", None)
            val["metrics"] = every


def compares_with_gt(metric: Callable[..., Any]) -> bool:
    """Return whether a metric of BasicSR also takes the ground truth."""
    gt = signature(metric).parameters.get("img2")
    return gt is not None and gt.default is gt.empty
