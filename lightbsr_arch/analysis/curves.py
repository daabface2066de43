"""Plots of the losses and validation figures of training runs, read from BasicSR's TensorBoard logs."""

from pathlib import Path

import numpy as np

from lightbsr.errors import UserError
from lightbsr_arch.io import whole_file

Curve = tuple[np.ndarray, np.ndarray]
"""Iterations and values."""

SMOOTHED_OVER = 0.02
"""Share of a run over which a loss with many points is averaged."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Return every scalar of a run by its tag, such as ``losses/l_pix`` or ``metrics/Set5/psnr_y``.

    Raises:
        UserError: the folder is missing, or contains no TensorBoard file with scalars.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not run.is_dir():
        raise UserError(f"{run}: no such folder; runs with use_tb_logger: true leave one in tb_logger/")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        # A resumed run logs the iterations after its checkpoint twice. The later value is used.
        points = {point.step: point.value for point in events.Scalars(tag)}
        steps = sorted(points)
        curves[tag] = np.array(steps), np.array([points[step] for step in steps])
    if not curves:
        raise UserError(f"{run}: no curves in it")
    return curves


def plot_curves(runs: dict[str, Path], path: Path) -> None:
    """Draw runs, with their titles as keys, into the picture ``path``. The file is complete or not written.

    Raises:
        UserError: see ``read_curves``; or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("curves are drawn with matplotlib: pip install 'lightbsr-arch[plot]'") from None

    curves = {title: read_curves(run) for title, run in runs.items()}
    validated = any(_metrics(run) for run in curves.values())
    figure = Figure(figsize=(5 * len(runs), 6 if validated else 3.5), layout="constrained")
    axes = figure.subplots(1 + validated, len(runs), squeeze=False, sharex="col")
    for column, (title, run) in enumerate(curves.items()):
        for tag, (steps, values) in run.items():
            if tag.startswith("losses/"):
                axes[0, column].plot(steps, _smooth(values), label=tag.removeprefix("losses/"))
        axes[0, column].set(title=title, ylabel="loss", yscale="log")
        if validated:
            for tag, (steps, values) in _metrics(run).items():
                axes[1, column].plot(steps, values, marker=".", label=tag.split("/", 1)[1].removesuffix("/psnr_y"))
            axes[1, column].set(ylabel="PSNR-Y (dB)")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize="small")
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    with whole_file(path) as unfinished:
        try:
            figure.savefig(unfinished, format=path.suffix[1:] or "png", dpi=100)
        except ValueError as error:  # matplotlib cannot write this format
            raise UserError(f"{path}: cannot be written: {error}") from None


def _metrics(run: dict[str, Curve]) -> dict[str, Curve]:
    """Return the mean PSNR of each validation set. There would be too many curves of single settings."""
    return {tag: curve for tag, curve in run.items() if tag.endswith("/psnr_y") and tag.count("/") == 2}


def _smooth(values: np.ndarray) -> np.ndarray:
    width = max(1, int(len(values) * SMOOTHED_OVER))
    padded = np.pad(values, (width // 2, (width - 1) // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")
