"""Report of the demo, with a table of Gaussian8 PSNR on held-out photos, a before/after picture and the loss curves.

``make demo`` runs it after training options/teacher.yml and options/student.yml. It writes to demo_output/.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.analysis.curves import plot_curves
from lightbsr_arch.config.load import load_options
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.degradations import bicubic_resize
from lightbsr_arch.io import write_whole

# With current torchvision, BasicSR can be imported only after this package.
# isort: split
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img
from tqdm import tqdm

OUT = Path("demo_output")
PICTURE_SIGMA = 2.6
PICTURE_PHOTOS = 3

Upscale = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    options = load_options("options/student.yml", is_train=True)
    teacher_path = Path(options["path"]["pretrain_network_teacher"])
    student_path = Path("experiments") / options["name"] / "models" / "net_g_latest.pth"
    teacher, student = lightbsr_arch.load(teacher_path), lightbsr_arch.load(student_path)
    models: dict[str, Upscale] = {
        "bicubic": lambda lq, gt: bicubic_resize(lq, options["scale"]),
        "KDSR-S teacher (receives the ground truth)": teacher,
        "KDSR-S student": lambda lq, gt: student(lq),
    }
    held_out = DegradedDataset({**options["datasets"]["val"], "scale": options["scale"]})
    OUT.mkdir(exist_ok=True)
    table = psnr_table(models, held_out, options["scale"])
    print(table)
    write_whole(OUT / "table.md", f"{table}\n".encode())
    write_picture(models, held_out, OUT / "before_after.png")
    runs = {"teacher": teacher_path.parents[1].name, "student": options["name"]}
    plot_curves({title: Path("tb_logger") / name for title, name in runs.items()}, OUT / "loss_curves.png")
    print(f"Written: {', '.join(str(OUT / name) for name in ('table.md', 'before_after.png', 'loss_curves.png'))}")


@torch.inference_mode()
def psnr_table(models: dict[str, Upscale], held_out: DegradedDataset, scale: int) -> str:
    """Return PSNR-Y (dB) by model and sigma, and the mean, as a Markdown table."""
    sigmas = [setting.name.removeprefix("sigma") for setting in held_out.settings]
    psnr = {model: np.zeros(len(sigmas)) for model in models}
    for index in tqdm(range(len(held_out)), desc="Gaussian8", unit="image", file=sys.stderr):
        item = held_out[index]
        for model, upscale in models.items():
            sr = tensor2img(upscale(item["lq"][None], item["gt"][None]))
            value = calculate_psnr(sr, tensor2img(item["gt"]), crop_border=scale, test_y_channel=True)
            psnr[model][index // len(held_out.source)] += value / len(held_out.source)
    lines = [
        f"PSNR-Y in dB on {len(held_out.source)} held-out photos, x{scale}, isotropic Gaussian blur of sigma:",
        "",
        "| | " + " | ".join(sigmas) + " | mean |",
        "|---|" + "---|" * (len(sigmas) + 1),
    ]
    for model, values in psnr.items():
        cells = [f"{value:.2f}" for value in [*values, values.mean()]]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    gain = psnr["KDSR-S student"].mean() - psnr["bicubic"].mean()
    return "\n".join([*lines, "", f"The student gains {gain:+.2f} dB over bicubic."])


@torch.inference_mode()
def write_picture(models: dict[str, Upscale], held_out: DegradedDataset, path: Path) -> None:
    """Write a picture of bicubic, student and ground truth of a few held-out photos side by side."""
    view = next(view for view in held_out.by_setting() if view.settings[0].name == f"sigma{PICTURE_SIGMA:g}")
    rows = []
    for index in range(min(PICTURE_PHOTOS, len(view))):
        lq, gt = view[index]["lq"][None], view[index]["gt"][None]
        shown = {
            f"bicubic (sigma {PICTURE_SIGMA})": models["bicubic"](lq, gt),
            "KDSR-S student": models["KDSR-S student"](lq, gt),
            "ground truth": gt,
        }
        rows.append(np.hstack([_labelled(tensor2img(image), label) for label, image in shown.items()]))
    cv2.imwrite(str(path), np.vstack(rows))


def _labelled(image: np.ndarray, label: str) -> np.ndarray:
    strip = np.full((24, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, label, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, image])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"demo_report: {error}")
