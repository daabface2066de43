"""A comparison of all estimators with all restorers, in short trainings of equal length.

    python benchmarks/study.py [--output study_output]

An entry is one estimator with one restorer. Every entry has the same number of steps, the same photos and the same
degradation, isotropic blur (Gaussian8). ``study.yml`` contains the options that all entries share. The script writes a
complete options file per entry, trains it by ``basicsr train``, and measures the network:

- PSNR-Y on the held-out images under Gaussian8, from the training's validation;
- the accuracy with which the IDR predicts which of the eight blurs a crop has (5-NN, chance 12.5 %, and R2), and the
  loss in dB with a wrong IDR;
- the number of parameters, and the time per step that the training log states.

A student shares its steps with its teacher: half of them train the teacher, and half the student, which starts from the
teacher's restorer. A teacher is trained once per restorer and has a row of its own.

A complete entry is skipped, and an interrupted one is continued. OUTPUT/table.md and OUTPUT/study.png contain the
entries that are complete.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import cores, describe
from pages import write_between
from short_training import interrupt, measure, train

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import factor
from lightbsr_arch.archs.part import Restorer, registered
from lightbsr_arch.config.yaml_file import load_file, to_yaml
from lightbsr_arch.data.gt_source import io_type
from lightbsr_arch.io import whole_file, write_whole

HERE = Path(__file__).parent
PHOTOS = ("datasets/photos/train.lmdb", "datasets/demo/train.lmdb")
IMAGES = ("datasets/Set5", "examples/photos/held_out")
"""Data by preference: the first that exists is the default."""

SCALE: int = load_file(HERE / "study.yml").data["scale"]

STEPS, TINY_STEPS = 3200, 8
CROP, CROPS, TINY_CROPS = 128, 4, 1
IDR_CH = 32
"""Channels of every IDR, so that every estimator fits every restorer."""

CONTRAST = {"type": "MomentumContrastLoss", "num_patch": 2, "queries": "first", "queue_size": 512, "momentum": 0.99}
CONTRAST_OF_ALL = {"type": "MomentumContrastLoss", "num_patch": 2, "queue_size": 512}
BY_IDR = {"type": "KDSRDistillLoss", "temperature": 0.15}
BY_GUIDES = {"type": "LightBSRDistillLoss"}


@dataclass(frozen=True)
class Trained:
    """An estimator and its training.

    Attributes:
        network: its class and arguments.
        title: its name in tables.
        model: model that trains it.
        train: options in ``train`` besides the shared ones.
        patches: patches per image of a batch, which share a degradation.
        teacher: key of the teacher in ``TEACHERS``; None without distillation.
    """

    network: dict[str, Any]
    title: str
    model: str = "BlindSRModel"
    train: dict[str, Any] = field(default_factory=dict)
    patches: int = 1
    teacher: str | None = None


TEACHERS = {
    "kdideteacher": Trained(
        {"type": "KDIDETeacher", "num_feat": IDR_CH, "num_block": 2, "scale": SCALE},
        "KDIDE's teacher (sees the ground truth)",
        "KDTeacherModel",
    ),
    "lightideteacher": Trained(
        {"type": "LightIDETeacher", "num_feat": IDR_CH // 4},
        "LightIDE's teacher (sees the kernel)",
        "KDTeacherModel",
        {"contrast_opt": CONTRAST_OF_ALL},
        patches=2,
    ),
}

ESTIMATORS = {
    "known": Trained(
        {"type": "KnownDegradation", "num_kernel_ch": IDR_CH - 1, "num_noise_ch": 1}, "SRMD's known kernel"
    ),
    "dasr": Trained(
        {"type": "DASREncoder", "num_feat": IDR_CH // 4},
        "DASR",
        "ContrastiveSRModel",
        {"contrast_opt": CONTRAST},
        patches=2,
    ),
    "cdcl": Trained(
        {"type": "CdCLEncoder", "num_feat": IDR_CH // 4},
        "CdCL",
        "ContrastiveSRModel",
        {"cyclic_opt": {"type": "FastMoCoLoss", "num_patch": 4}},
    ),
    "degrees": Trained(
        {"type": "DegreeEstimator", "num_feat": 16, "num_hidden": 64, "idr_ch": IDR_CH}, "MM-RealSR's degrees"
    ),
    "kdide": Trained(
        {"type": "KDIDEStudent", "num_feat": IDR_CH, "num_block": 2},
        "KDIDE",
        "KDStudentModel",
        {"start_from_teacher": "all", "distill_opt": {**BY_IDR, "l1_weight": 1.0}},
        teacher="kdideteacher",
    ),
    "lightide": Trained(
        {"type": "LightIDEStudent", "num_feat": IDR_CH // 4},
        "LightIDE",
        "KDStudentModel",
        {"start_from_teacher": "all", "distill_opt": {**BY_IDR, "l1_weight": 0.1}},
        teacher="lightideteacher",
    ),
    "mrda": Trained(
        {"type": "MRDAEncoder", "num_feat": IDR_CH // 4},
        "MRDA",
        "KDStudentModel",
        {"start_from_teacher": "restorer", "distill_opt": {**BY_IDR, "l1_weight": 0.1}},
        teacher="lightideteacher",
    ),
}

RESTORERS: dict[str, dict[str, Any]] = {
    "idrdcrbnet": {"type": "IDRDCRBNet", "num_feat": IDR_CH, "num_block": 4, "scale": SCALE},
    "dasrnet": {"type": "DASRNet", "num_feat": 32, "num_group": 2, "num_block": 1, "idr_ch": IDR_CH, "scale": SCALE},
    "lightbsrnet": {
        "type": "LightBSRNet", "num_feat": 32, "num_group": 2, "num_block": 1, "idr_ch": IDR_CH, "scale": SCALE,
    },
    "srmdnet": {"type": "SRMDNet", "num_feat": 48, "num_block": 8, "idr_ch": IDR_CH, "scale": SCALE},
    "rdanet": {"type": "RDANet", "num_feat": 32, "num_block": 2, "idr_ch": IDR_CH, "scale": SCALE},
    "cdclnet": {"type": "CdCLNet", "num_feat": 32, "num_group": 2, "num_block": 1, "idr_ch": IDR_CH, "scale": SCALE},
    "mmrealsrnet": {
        "type": "MMRealSRNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 16, "num_embed": 64, "num_hidden": 64,
        "idr_ch": IDR_CH, "scale": SCALE,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One training of an estimator with a restorer, by their keys above."""

    estimator: str
    restorer: str

    @property
    def name(self) -> str:
        return f"{self.estimator}_{self.restorer}"

    @property
    def trained(self) -> Trained:
        return (TEACHERS | ESTIMATORS)[self.estimator]

    @property
    def teacher(self) -> "Entry | None":
        return Entry(self.trained.teacher, self.restorer) if self.trained.teacher else None


def entries(kind: str = "all") -> list[Entry]:
    """List the entries by restorer, teachers before their students.

    Args:
        kind: "teachers", "others" or "all".
    """
    estimators = {"teachers": TEACHERS, "others": ESTIMATORS, "all": TEACHERS | ESTIMATORS}[kind]
    return [Entry(estimator, restorer) for restorer in RESTORERS for estimator in estimators]


class Study:
    """The trainings and results of one output folder.

    Args:
        output: the folder.
        photos: folder or LMDB of training photos.
        images: folder or LMDB of held-out images, at least three.
        steps: steps of an entry, including those of its teacher.
        tiny: whether the networks have one block and few crops are measured, for a test.
    """

    def __init__(self, output: Path, photos: str, images: str, steps: int, tiny: bool = False) -> None:
        self.output, self.photos, self.images = output, Path(photos).resolve(), Path(images).resolve()
        self.steps, self.tiny = steps, tiny

    def check_data(self) -> None:
        """Raise `UserError` if photos or images are missing."""
        for data in (self.photos, self.images):
            if not data.exists():
                raise UserError(f"{data}: no such folder or LMDB; name others by --photos and --images")

    # ------------------------------------------------------------------------------------------ options

    def halved(self, entry: Entry) -> bool:
        """Return whether an entry is a teacher or a student. Each of these has half of the steps."""
        return entry.teacher is not None or entry.estimator in TEACHERS

    def steps_of(self, entry: Entry) -> int:
        """Return the steps of an entry's own training."""
        return self.steps // 2 if self.halved(entry) else self.steps

    def options(self, entry: Entry) -> dict[str, Any]:
        """Return the complete options of an entry."""
        steps, trained = self.steps_of(entry), entry.trained
        opt: dict[str, Any] = load_file(HERE / "study.yml").data
        opt |= {"name": entry.name, "model_type": trained.model}
        opt["datasets"]["train"] |= _data(self.photos)
        opt["datasets"]["val"] |= _data(self.images)
        if trained.patches > 1:
            opt["datasets"]["train"]["patches_per_item"] = trained.patches
        restorer = dict(RESTORERS[entry.restorer])
        if self.tiny:
            restorer |= {key: 1 for key in ("num_group", "num_block") if key in restorer}
            opt["datasets"]["train"]["gt_size"] = 32
            opt["datasets"]["val"]["settings"] = [{"sigma": 2.6}]
        opt["network_g"] |= {"estimator": dict(trained.network), "restorer": restorer}
        opt["train"] |= {"total_iter": steps, **deepcopy(trained.train)}
        opt["train"]["scheduler"]["periods"] = [steps]
        if entry.teacher:
            opt["network_teacher"] = {
                "type": "BlindSR", "estimator": dict(entry.teacher.trained.network), "restorer": dict(restorer),
            }  # fmt: skip
            opt["path"]["pretrain_network_teacher"] = str(_network(entry.teacher))
            if entry.estimator == "lightide" and _knows(restorer) >= {"channel_guide", "spatial_guide"}:
                opt["train"]["distill_opt"] = BY_GUIDES
        opt["val"]["val_freq"] = steps
        opt["logger"]["save_checkpoint_freq"] = max(1, steps // 4)
        if self.tiny:
            opt["logger"]["print_freq"] = 1
        return opt

    def write_options(self, entry: Entry) -> Path:
        """Write the options file of an entry.

        Raises:
            UserError: the folder has one with other options, such as another number of steps.
        """
        path = self.output / "options" / f"{entry.name}.yml"
        text = "# Written by benchmarks/study.py. Run it in the folder above: basicsr train -opt options/"
        text += f"{entry.name}.yml\n{to_yaml(self.options(entry))}"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path}: has other options than this study; choose another --output, or remove it")
        write_whole(path, text.encode(), make_folder=True)
        return path

    # ------------------------------------------------------------------------------------------ running

    def result_file(self, entry: Entry) -> Path:
        return self.output / "results" / f"{entry.name}.json"

    def run(self, entry: Entry) -> dict[str, Any]:
        """Train and measure the teacher of an entry and then the entry, unless they are complete.

        Raises:
            UserError: a training failed.
        """
        options = self.write_options(entry)
        if self.result_file(entry).is_file():
            return self.read(entry)
        if entry.teacher:
            self.run(entry.teacher)
        log = self.output / "logs" / f"{entry.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        train(options.resolve(), folder=self.output, log=log)
        network = self.output / _network(entry)
        blur = factor("sigma", SCALE)
        result = {
            "entry": entry.name,
            "steps": self.steps_of(entry),
            "images": self.images.name,
            "machine": describe("torch", "basicsr"),
            "params": sum(p.numel() for p in lightbsr_arch.load(network).parameters()),
            **self._logged(entry),
            "idr": measure(network, str(self.images), [blur], CROP, TINY_CROPS if self.tiny else CROPS)[blur.name],
        }
        write_whole(self.result_file(entry), json.dumps(result, indent=2).encode() + b"\n", make_folder=True)
        return result

    def read(self, entry: Entry) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.result_file(entry).read_text(encoding="utf-8"))
        return found

    def _logged(self, entry: Entry) -> dict[str, float]:
        """Return PSNR-Y in dB and the median time per step in seconds, both from the logs of the training."""
        logs = sorted(
            (self.output / "experiments" / entry.name).glob("train_*.log"), key=lambda log: log.stat().st_mtime
        )
        text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
        psnr, times = re.findall(r"# psnr_y: (\S+)", text), re.findall(r"time \(data\): (\S+)", text)
        if not psnr or not times:
            raise UserError(f"{logs[-1] if logs else entry.name}: has no PSNR-Y or no times")
        return {"psnr_y": float(psnr[-1]), "seconds_per_step": statistics.median(map(float, times))}

    # ------------------------------------------------------------------------------------------ report

    def results(self) -> dict[Entry, dict[str, Any]]:
        """Return the results of the complete entries."""
        return {entry: self.read(entry) for entry in entries() if self.result_file(entry).is_file()}

    def table(self) -> str:
        """Return the complete entries as a table in Markdown. Raise `UserError` if there is none."""
        found = self.results()
        if not found:
            raise UserError(f"{self.output}: no entry is complete")
        machines = dict.fromkeys(result["machine"] for result in found.values())
        images = dict.fromkeys(result["images"] for result in found.values())
        steps = {result["steps"] * (2 if self.halved(entry) else 1) for entry, result in found.items()}
        lines = [
            f"{len(found)} of {len(entries())} entries are complete, with {' or '.join(map(str, sorted(steps)))} steps "
            f"each, and the held-out images of {' and '.join(images)}.",
            "",
            *(f"Machine: {machine}." for machine in machines),
            "",
            "| estimator | restorer | steps | PSNR-Y | 5-NN | R2 | wrong IDR costs | parameters | s per step (log) |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for entry, result in found.items():
            own, idr = f"{result['steps']}", result["idr"]
            trained = f"{own} + {own}" if entry.teacher else own
            lines.append(
                f"| {entry.trained.title} | {RESTORERS[entry.restorer]['type']} | {trained} | {result['psnr_y']:.2f} | "
                f"{idr['knn']:.1%} | {idr['r2']:.2f} | {idr['wrong_costs']:.2f} | {result['params']:,} | "
                f"{result['seconds_per_step']:.2f} |"
            )
        return "\n".join(lines)

    def plot(self, path: Path) -> None:
        """Draw PSNR-Y and 5-NN of the complete entries, estimators by restorers."""
        from matplotlib.figure import Figure

        found = self.results()
        rows = [key for key in TEACHERS | ESTIMATORS if any(entry.estimator == key for entry in found)]
        columns = [key for key in RESTORERS if any(entry.restorer == key for entry in found)]
        figure = Figure(figsize=(4 + 1.8 * len(columns), 1.6 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        panels = (
            ("PSNR-Y (dB)", "{:.2f}", lambda one: one["psnr_y"]),
            ("5-NN (%)", "{:.0f}", lambda one: 100 * one["idr"]["knn"]),
        )
        for axis, (title, form, value) in zip(axes, panels):
            grid = [
                [
                    value(found[Entry(row, column)]) if Entry(row, column) in found else float("nan")
                    for column in columns
                ]
                for row in rows
            ]
            axis.imshow(grid, aspect="auto", cmap="Blues", alpha=0.6)
            for y, line in enumerate(grid):
                for x, number in enumerate(line):
                    if number == number:  # not NaN
                        axis.text(x, y, form.format(number), ha="center", va="center", fontsize="small")
            axis.set_xticks(range(len(columns)), [RESTORERS[key]["type"] for key in columns], rotation=30, ha="right")
            axis.set_yticks(range(len(rows)), [(TEACHERS | ESTIMATORS)[key].title for key in rows])
            axis.set_title(title)
        with whole_file(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=100)


def _data(path: Path) -> dict[str, Any]:
    return {"dataroot_gt": str(path), "io_backend": {"type": io_type(path)}}


def _network(entry: Entry) -> Path:
    """Return the file of an entry's network, below the output folder."""
    return Path("experiments", entry.name, "models", "net_g_latest.pth")


def _knows(restorer: dict[str, Any]) -> set[str]:
    return {*registered(Restorer)[restorer["type"]].knows}


Outcome = tuple[Entry, str | None]
"""An entry, and the reason if it failed."""


def run_here(study: Study, chosen: list[Entry]) -> Iterator[Outcome]:
    """Run entries one after the other."""
    for entry in chosen:
        try:
            study.run(entry)
        except UserError as error:
            yield entry, str(error)
        else:
            yield entry, None


def run_in_processes(study: Study, chosen: list[Entry], jobs: int) -> Iterator[Outcome]:
    """Run entries in processes of one thread each, several at a time, teachers before the others.

    Raises:
        KeyboardInterrupt: this program was interrupted or terminated. The trainings have saved their states.
    """
    flags = ["--output", str(study.output), "--photos", str(study.photos), "--images", str(study.images)]
    flags += ["--steps", str(study.steps), "--jobs", "1", *(["--tiny"] if study.tiny else [])]
    running: list[subprocess.Popen[str]] = []

    def run(entry: Entry) -> str | None:
        if study.result_file(entry).is_file():
            ((_, failure),) = run_here(study, [entry])
            return failure
        command = [sys.executable, __file__, *flags, "--only", entry.name]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        printed, _ = process.communicate()
        return printed.strip().splitlines()[-1].split(": failed: ")[-1] if process.returncode else None

    signal.signal(signal.SIGTERM, interrupt)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for teachers in (True, False):
                phase = [entry for entry in chosen if (entry.estimator in TEACHERS) == teachers]
                futures = {pool.submit(run, entry): entry for entry in phase}
                for future in as_completed(futures):
                    yield futures[future], future.result()
        except BaseException:  # GeneratorExit, if the interruption came between two outcomes
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise


def reported(study: Study, outcomes: Iterable[Outcome], chosen: list[Entry]) -> Iterator[str]:
    """Yield a line per outcome, with the estimated remaining time."""
    start, ran = time.monotonic(), 0
    before = {entry for entry in chosen if study.result_file(entry).is_file()}
    for number, (entry, failure) in enumerate(outcomes, 1):
        place = f"{entry.name} ({number} of {len(chosen)})"
        if failure:
            yield f"{place}: failed: {failure}"
            continue
        ran += entry not in before
        missing = sum(not study.result_file(one).is_file() for one in chosen)
        minutes = (time.monotonic() - start) / max(ran, 1) * missing / 60
        eta = f"; about {minutes:.0f} min left" if missing and ran else ""
        result = study.read(entry)
        figures = f"PSNR-Y {result['psnr_y']:.2f}, 5-NN {result['idr']['knn']:.1%}"
        yield f"{place}: {'complete before, ' * (entry in before)}{figures}{eta}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("study_output"), help="default %(default)s")
    parser.add_argument("--photos", help=f"training photos, a folder or LMDB; default {' or '.join(PHOTOS)}")
    parser.add_argument("--images", help=f"held-out images; default {' or '.join(IMAGES)}")
    parser.add_argument("--steps", type=int, help=f"steps of an entry, an even number; default {STEPS}")
    parser.add_argument("--jobs", type=int, help="entries at a time, with one thread each; default one per core")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these entries, and teachers that they need")
    parser.add_argument("--tiny", action="store_true", help="one teacher and its student, small and short, as a test")
    kinds = ("all", "teachers", "others")
    parser.add_argument("--list", nargs="?", const="all", choices=kinds, help="print names of entries, and stop")
    parser.add_argument("--page", type=Path, help="write the table into this page and study.png into its images; stop")
    args = parser.parse_args(arguments)
    if args.list:
        print("\n".join(entry.name for entry in entries(args.list)))
        return 0
    known = {entry.name: entry for entry in entries()}
    names = args.only or (["kdideteacher_idrdcrbnet", "kdide_idrdcrbnet"] if args.tiny else [*known])
    if unknown := {*names} - known.keys():
        parser.error(f"no entry is called {', '.join(sorted(unknown))}; --list prints the names")
    steps = args.steps or (TINY_STEPS if args.tiny else STEPS)
    if steps < 2 or steps % 2:
        parser.error(f"--steps {steps}: expected an even number, which a teacher and its student share")
    study = Study(args.output, args.photos or _first(PHOTOS), args.images or _first(IMAGES), steps, args.tiny)
    if args.page:
        figure = "![PSNR-Y and 5-NN accuracy of estimators by restorers](images/study.png)"
        write_between(args.page, "study", f"{study.table()}\n\n{figure}")
        study.plot(args.page.parent / "images/study.png")
        return 0
    study.check_data()
    print(describe("torch", "basicsr"), flush=True)
    wanted = [known[name] for name in names]
    chosen = [*dict.fromkeys([*(entry.teacher for entry in wanted if entry.teacher), *wanted])]
    jobs = min(args.jobs or cores(), len(chosen))
    outcomes = run_in_processes(study, chosen, jobs) if jobs > 1 else run_here(study, chosen)
    failed = False
    for line in reported(study, outcomes, chosen):
        print(line, flush=True)
        failed |= ": failed: " in line
        if study.results():
            write_whole(study.output / "table.md", study.table().encode() + b"\n")
            study.plot(study.output / "study.png")
    return int(failed)


def _first(candidates: tuple[str, ...]) -> str:
    """Return the first path that exists, or else the last."""
    return next((path for path in candidates if Path(path).exists()), candidates[-1])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"study: {error}")
    except KeyboardInterrupt:
        print("study: interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
