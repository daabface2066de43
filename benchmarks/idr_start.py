"""A comparison of initialisations by the degradation that estimators learn.

    python benchmarks/idr_start.py [TRIAL...] [--images datasets/Set14]

A trial is a short training of a recipe in options/weights, with the photos that the recipe names, in
experiments/idr_start_TRIAL. The trial of its teacher runs first. An interrupted trial is continued.

The factor is the isotropic blur with sigma 0.5, 1, ... 4 (chance 12.5 %). In trials of setting 2, the factors are the
angle of a blur and the noise. For each trial, the script prints the accuracy with which the IDRs of crops of other
images predict the level of a factor (5-NN), R2 of a regression of the level, the PSNR-Y of the crops, and the loss in
dB with the mean IDR or a wrong IDR. All trials take about two hours on one core.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import describe
from short_training import measure, train

from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import factor

SIGMAS = [0.5 * step for step in range(1, 9)]
CROP, CROPS = 128, 4
SCALE = 4
INITS = ("pytorch", "detail")


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        recipe: file in options/weights, without extension.
        steps: steps of the training.
        options: options that differ from the recipe.
        teacher: trial that trains the teacher.
        factors: properties of the degradation that are measured.
    """

    recipe: str
    steps: int
    options: tuple[str, ...]
    teacher: str | None = None
    factors: tuple[str, ...] = ("sigma",)

    def run(self, name: str) -> Path:
        """Train, unless the training is complete. Return the file of the network."""
        run = f"idr_start_{name}"
        network = Path("experiments", run, "models", "net_g_latest.pth")
        if not network.is_file():
            options = [
                f"name={run}",
                f"train:total_iter={self.steps}",
                f"train:scheduler:periods=[{self.steps}]",
                "train:scheduler:restart_weights=[1]",
                "train:ema_decay=0.99",
                f"val:val_freq={self.steps}",
                *self.options,
            ]
            if self.teacher:
                options.append(
                    f"path:pretrain_network_teacher=experiments/idr_start_{self.teacher}/models/net_g_latest.pth"
                )
            train(Path(f"options/weights/{self.recipe}.yml"), options)
        return network


START_ALL, BY_L1 = "train:start_from_teacher=all", "train:distill_opt:l1_weight=1"
WAYS = {
    "plain": (),
    "all": (START_ALL,),
    "all_l1": (START_ALL, BY_L1),
    "alone": ("train:estimator_iter=600",),
    "all_l1_alone": (START_ALL, BY_L1, "train:estimator_iter=600"),
}
"""Variants of distillation: the layers that start from the teacher's weights, L1 in addition to the KL divergence, and
a first phase with only distillation."""


SETTING2 = ("degradation:kernel=aniso", "degradation:noise=[0,25]")
"""The papers' setting 2: anisotropic blur and noise."""


def trials() -> dict[str, Trial]:
    found: dict[str, Trial] = {}
    for blocks, teacher_steps, student_steps in ((4, 2000, 1200), (16, 3000, 2000)):
        size = f"network_g:restorer:num_block={blocks}"
        plain = (
            size, f"network_teacher:restorer:num_block={blocks}", "train:estimator_iter=0",
            "train:start_from_teacher=restorer", "train:distill_opt:l1_weight=0",
        )  # fmt: skip
        for init in INITS:
            start = f"network_g:estimator:init={init}"
            teacher = f"kdsr{blocks}_teacher_{init}"
            found[teacher] = Trial("kdsr_s_x4_iso_teacher", teacher_steps, (size, start))
            for way, options in WAYS.items() if init == "detail" else [("plain", ())]:
                name = f"kdsr{blocks}_student_{init}_{way}"
                found[name] = Trial("kdsr_s_x4_iso_student", student_steps, (*plain, start, *options), teacher)
    for init in INITS:
        start = f"network_g:estimator:init={init}"
        found[f"lightbsr_teacher_{init}"] = Trial("lightbsr_s_x4_iso_teacher", 1000, (start,))
        alone = (start, "train:estimator_iter=1500")
        found[f"lightbsr_student_{init}"] = Trial("lightbsr_s_x4_iso_student", 1800, alone, "lightbsr_teacher_pytorch")
    both, small = ("angle", "noise"), "network_g:restorer:num_block=4"
    for init in INITS:
        here = (f"network_g:estimator:init={init}", *SETTING2)
        kdsr, lightbsr = (f"setting2_{system}_teacher_{init}" for system in ("kdsr4", "lightbsr"))
        found[kdsr] = Trial("kdsr_s_x4_iso_teacher", 2000, (small, *here), factors=both)
        options = (small, "network_teacher:restorer:num_block=4", "train:estimator_iter=600", *here)
        found[kdsr.replace("teacher", "student")] = Trial("kdsr_s_x4_iso_student", 2000, options, kdsr, both)
        with_noise = ("network_g:estimator:num_noise_ch=3", *here)
        found[lightbsr] = Trial("lightbsr_s_x4_iso_teacher", 1000, with_noise, factors=both)
        options = ("train:estimator_iter=1500", "network_teacher:estimator:num_noise_ch=3", *here)
        found[lightbsr.replace("teacher", "student")] = Trial(
            "lightbsr_s_x4_iso_student", 1800, options, lightbsr, both
        )
    return found


def main() -> None:
    known = trials()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"default all: {' '.join(known)}")
    parser.add_argument("--images", default="datasets/Set14", help="sharp images, not used in training (%(default)s)")
    args = parser.parse_args()
    if unknown := set(args.trials) - known.keys():
        parser.error(f"no trial is called {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    print(describe("torch", "basicsr"))
    print("| trial | steps | factor | 5-NN | R2 | PSNR-Y | mean IDR costs | wrong IDR costs |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    done: dict[str, Path] = {}
    for name in args.trials or known:
        chain = [name] if known[name].teacher is None else [known[name].teacher, name]
        for one in filter(None, chain):
            if one not in done:
                done[one] = known[one].run(one)
        for kind, cells in figures(done[name], args.images, known[name].factors).items():
            print(f"| {name} | {known[name].steps} | {kind} | {cells} |", flush=True)


def figures(network: Path, images: str, kinds: tuple[str, ...]) -> dict[str, str]:
    """Return the cells of one trial for each factor."""
    factors = [factor(kind, SCALE, SIGMAS) for kind in kinds]
    measures = measure(network, images, factors, CROP, CROPS)
    cells = {}
    for one in factors:
        found = measures[one.name]
        r2 = "" if one.name == "angle" else f"{found['r2']:.2f}"  # the angle is cyclic
        chance = f"{found['knn']:.1%} of {1 / len(one.levels):.1%}"
        psnr, mean_costs, wrong_costs = (f"{found[key]:.2f}" for key in ("psnr_y", "mean_costs", "wrong_costs"))
        cells[one.name] = f"{chance} | {r2} | {psnr} | {mean_costs} | {wrong_costs}"
    return cells


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"idr_start: {error}")
