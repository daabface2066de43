"""Short trainings by the ordinary command, and measures of their networks."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import Factor, measure_use, read_idrs
from lightbsr_arch.analysis.measures import neighbour_accuracy, regression_r2
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.data.gt_source import GTSource, io_type

IDRMeasures = dict[str, float]


def train(options: Path, overrides: Sequence[str] = (), *, folder: Path = Path(), log: Path | None = None) -> None:
    """Run ``basicsr train`` on an options file, and continue an interrupted run.

    Args:
        options: the options file.
        overrides: options that differ from the file, ``section:key=value``.
        folder: the working folder, in which ``experiments`` is made.
        log: file for the output of the command. With None, only errors are shown.

    Raises:
        UserError: the training failed.
        KeyboardInterrupt: this program was interrupted or terminated. The training has saved its state.
    """
    command = [sys.executable, "-m", "lightbsr_arch.training", "train", "-opt", str(options), "--auto_resume"]
    command += ["--force_yml", *overrides] if overrides else []
    previous = signal.signal(signal.SIGTERM, interrupt)
    output = log.open("wb") if log else None
    try:
        with subprocess.Popen(command, cwd=folder, stdout=output or subprocess.DEVNULL, stderr=output) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.terminate()  # the training saves its state, then ends
                process.wait()
                raise
    finally:
        signal.signal(signal.SIGTERM, previous)
        if output:
            output.close()
    if code:
        lines = log.read_text(errors="replace").strip().splitlines() if log else []
        raise UserError(f"{options}: the training failed: {lines[-1] if lines else f'exit code {code}'}")


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle a signal as the interruption by the keyboard is handled."""
    raise KeyboardInterrupt


def measure(network: Path, images: str, factors: Sequence[Factor], size: int, crops: int) -> dict[str, IDRMeasures]:
    """Measure the IDRs of a network for each factor, and their effect on the restored crops, as ``lightbsr idr`` does.

    Args:
        network: file of a BlindSR, which may be a teacher.
        images: folder or LMDB of at least three sharp images, not used in training.
        factors: the factors.
        size: side of the crops in pixels.
        crops: largest number of crops per image.

    Returns:
        By factor: ``knn``, the 5-NN accuracy of the level; ``r2`` of a linear regression of the level; ``psnr_y`` of
        the crops in dB; ``mean_costs`` and ``wrong_costs``, the loss in dB with the mean IDR or a wrong one.
    """
    model = lightbsr_arch.load(network)
    assert isinstance(model, BlindSR)
    readings = read_idrs({"": model}, factors, GTSource(images, io_type(images)), size, crops)
    figures = {}
    for one in factors:
        vectors = readings.vectors[""][one.name]
        use = measure_use(model, one, readings.crops, vectors)
        figures[one.name] = {
            "knn": neighbour_accuracy(vectors, readings.images),
            "r2": regression_r2(vectors, readings.images, one.levels),
            "psnr_y": use.psnr,
            "mean_costs": use.mean_costs,
            "wrong_costs": use.wrong_costs,
        }
    return figures
