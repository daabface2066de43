"""Random changes of options files. Each file is accepted, or refused with one line per problem.

    python -m tests.fuzz_options --minutes 30

A case depends only on its number. If the check accepts changed toy options, they are also trained for an iteration, in
a separate process, unless only the check is requested. Any other outcome ends with exit code 1.
"""

import argparse
import copy
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from lightbsr.errors import UserError
from lightbsr_arch.config.load import load_options
from lightbsr_arch.config.merge import read_options
from lightbsr_arch.config.registries import registered
from tests import option_files

LONGEST_CHECK = 20
LONGEST_RUN = 60  # seconds of processor time
LONGEST_LINE = 2500

TOY = """\
name: toy
model_type: BlindSRModel
scale: 4
num_gpu: 0
manual_seed: 0
degradation: {type: ClassicalDegradation, kernel: iso, sigma: [0.2, 4.0]}
datasets:
  train:
    name: train
    type: GTDataset
    dataroot_gt: hr
    io_backend: {type: disk}
    gt_size: 32
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 10
  val:
    name: val
    type: DegradedDataset
    dataroot_gt: hr
    io_backend: {type: disk}
    settings: [{sigma: 1.2}]
network_g: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 4}
path: {pretrain_network_g: ~}
train:
  total_iter: 1
  ema_decay: 0.9
  optim_g: {type: Adam, lr: 1e-3, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [1000], gamma: 0.5}
  pixel_opt: {type: L1Loss, loss_weight: 1.0}
val:
  val_freq: 1
  save_img: true
  metrics: {psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: true}}
logger: {print_freq: 1, save_checkpoint_freq: 1, use_tb_logger: false}
"""
KDSR = (
    TOY.replace("BlindSRModel", "KDTeacherModel")
    .replace("{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 4}", """
  type: BlindSR
  estimator: {type: KDIDETeacher, num_feat: 8, num_block: 1, scale: 4}
  restorer: {type: IDRDCRBNet, num_feat: 8, num_block: 1, scale: 4}""")
    .replace("lr: 1e-3, betas: [0.9, 0.99]}", "lr: 1e-3}\n  grad_clip: 1.0\n  nan_loss: skip\n  channels_last: true")
)  # fmt: skip
PAIRS = (
    TOY.replace("BlindSRModel", "SRModel")
    .replace("GTDataset", "PairedImageDataset\n    dataroot_lq: lq")
    .replace("DegradedDataset", "PairedImageDataset\n    dataroot_lq: lq")
    .replace("    settings: [{sigma: 1.2}]\n", "")
    .replace("degradation: {type: ClassicalDegradation, kernel: iso, sigma: [0.2, 4.0]}\n", "")
)
TOYS = [TOY, KDSR, PAIRS]

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.5, 1e-30, 1e30, 10**400, 2**31, 2**63, -(10**12), float("nan"),
    float("inf"), -float("inf"), "", " ", ".", "..", "/", "../../x", "a/b", "/tmp/x", "~", "~nobody/x", "x" * 300,
    "x" * 5000, "a\nb", "a\x00b", "\x1b[31m", "é漢字", "\ud800", "1:30", "010", "0x10", "1e5", "yes", "null", "type",
    "Adam", "L1Loss", "GTDataset", "EDSR", "calculate_niqe", [], {}, [1], [0.1, 0.2], [1, 2, 3], [None],
    {"type": "Adam"}, {"type": None}, {"a": {"b": {"c": []}}}, [[[[]]]], {"": 1}, ["x"] * 100,
]  # fmt: skip
NUMBERS = ["1:30", "010", "0o17", ".nan", "-.inf", "1e30", "1_000", "+1", "9" * 5000, "0x1F", "1e400", "-0", ".5e-3"]
FRAGMENTS = [
    "*a", "&a", "<<: *a", "!!python/object/apply:os.system ['x']", "!!int x", "!!bool x", "!!binary x", "!!set {a}",
    "? ", "- ", "[" * 500, "{a: " * 200, "---\n", "...\n", "%YAML 1.1\n", "\t", "\x00", "\x85", "\ufeff", "\u2028",
    "'", '"', "|\n", ">\n", "#", ": ", ", ", "]", "}", "\n\n\n", "a: &a [*a]\n", "on: 1\n", "=: 1\n", "1: 2\n",
    "~: 1\n", "[a]: 1\n", "!", "`", "@", "%",
]  # fmt: skip
SECTIONS = [
    "name", "scale", "train", "train:optim_g", "train:optim_g:lr", "train:optim_g:type", "train:scheduler:gamma",
    "val:suffix", "network_g:num_feat", "network_g:type", "degradation:sigma", "datasets:train:gt_size",
    "datasets:train:batch_size_per_gpu", "datasets:train:name", "logger:print_freq", "path:resume_state",
    "path:pretrain_network_g", "manual_seed", "num_gpu", "", ":", "a:" * 100 + "a", "train:a:b:c", "datasets:val_2",
    "network_x/../y",
]  # fmt: skip


class Case(NamedTuple):
    """An options file, entries of ``--force_yml``, and whether a training of it takes a moment."""

    text: bytes
    overrides: list[str]
    is_train: bool
    is_toy: bool


def make_case(number: int) -> Case:
    """Return the case of a number."""
    draw = random.Random(number)
    if draw.random() < 0.6:
        base, is_toy, is_train = draw.choice(TOYS), True, True
    else:
        path = draw.choice(option_files.ALL)
        base = path.read_text(encoding="utf-8").replace("\nbase: ", f"\nbase: {path.parent}/")
        is_toy, is_train = False, not path.stem.startswith("test")
    overrides: list[str] = []
    how = draw.random()
    if how < 0.5:
        tree = yaml.safe_load(base)
        for _ in range(draw.choice([1, 1, 1, 1, 2])):
            _change_value(tree, draw)
        text = yaml.safe_dump(tree, allow_unicode=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    elif how < 0.8:
        text = base.encode()
        for _ in range(draw.choice([1, 1, 1, 3])):
            text = _change_text(text, draw)
    else:
        text = base.encode()
        for _ in range(draw.choice([1, 1, 2])):
            value = draw.choice([*NUMBERS, *FRAGMENTS, *map(str, VALUES)]).replace("\x00", "")
            overrides.append(f"{draw.choice(SECTIONS)}{draw.choice(['=', '=', '=', '', '=='])}{value}")
    return Case(text, overrides, is_train, is_toy)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with each of its keys."""
    for key, value in list(tree.items()) if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _change_value(tree: dict[str, Any], draw: random.Random) -> None:
    places = list(_places(tree))
    if not places:
        return
    container, key = draw.choice(places)
    change = draw.choice(["like", "like", "like", "like", "value", "value", "drop", "rename", "move"])
    if change == "drop":
        del container[key]
    elif change == "rename" and isinstance(container, dict):
        name = draw.choice([f"{key}x", key[1:], key.upper(), "type", "a\nb", "x" * 500, "", "../x", "\x1b"])
        container[name] = container.pop(key)
    elif change == "move":
        other, place = draw.choice(places)
        other[place] = copy.deepcopy(container[key])
    elif change == "like" and (like := _like(container[key], draw)) is not None:
        container[key] = like
    else:
        container[key] = copy.deepcopy(draw.choice(VALUES))


def _like(value: Any, draw: random.Random) -> Any:
    """Return another value of the same kind, which the check probably accepts, or None."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice([0, 1, 2, 3, 4, 5, 8, 15, 16, 31, 32, 33, 64, 100, 255, 100_000, 10**9])
    if isinstance(value, float):
        return draw.choice([0.0, 1e-30, 1e-8, 0.1, 0.5, 0.999, 1.0, 1.5, 2.0, 10.0, 255.0, 1e4, 1e9])
    if isinstance(value, list) and value:
        items = [item if draw.random() < 0.5 else _like(item, draw) for item in value]
        return draw.choice([items, items[::-1], items * 2, items[:-1]])
    if isinstance(value, str):
        kinds = ("network", "dataset", "model", "loss", "metric", "degradation", "optimizer", "scheduler")
        names = next((names for names in map(sorted, map(registered, kinds)) if value in names), None)
        return None if names is None else draw.choice(names)
    return None


def _change_text(text: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(text) + 1)
    change = draw.choice(["insert", "insert", "byte", "cut", "drop line", "repeat", "indent", "number"])
    if change == "insert":
        return text[:place] + draw.choice(FRAGMENTS).encode() + text[place:]
    if change == "byte":
        return text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :]
    if change == "cut":
        return text[:place]
    if change == "repeat":
        return text[:place] + text[place : place + 200] * draw.choice([2, 50]) + text[place:]
    lines = text.split(b"\n")
    line = draw.randrange(len(lines))
    if change == "drop line":
        del lines[line]
    elif change == "indent":
        lines[line] = b" " * draw.randrange(1, 50) + lines[line]
    else:
        lines[line] = lines[line].partition(b":")[0] + b": " + draw.choice(NUMBERS).encode()
    return b"\n".join(lines)


# ------------------------------------------------------------------------------------------ what becomes of a case


def prepare(folder: Path) -> None:
    """Make the files that the options name: pictures for the toy options, or stand-ins for data and weights."""
    draw = np.random.default_rng(0)
    for name, size in (("hr", 64), ("lq", 16)):
        (folder / name).mkdir()
        for number in range(4):
            cv2.imwrite(str(folder / name / f"{number}.png"), draw.integers(0, 256, (size, size, 3), np.uint8))
    for path in option_files.ALL:
        options = read_options(path).data
        for dataset in options["datasets"].values():
            for key in ("dataroot_gt", "dataroot_lq"):
                if key in dataset:
                    place = folder / dataset[key]
                    place.mkdir(parents=True, exist_ok=True)
                    for name in ("data.mdb", "meta_info.txt"):
                        (place / name).touch()
        for key, weights in options["path"].items():
            if key.startswith("pretrain_network") and isinstance(weights, str) and "/" in weights:
                (folder / weights).parent.mkdir(parents=True, exist_ok=True)
                (folder / weights).touch()


def outcome(case: Case, *, and_train: bool) -> tuple[str, str]:
    """Return the outcome of a case in the current folder (accepted, refused or unexpected), and the message."""
    file = Path("fuzz.yml")
    file.write_bytes(case.text)
    before = sorted(Path().iterdir())
    try:
        with _time_limit(LONGEST_CHECK):
            load_options(file, is_train=case.is_train, overrides=case.overrides)
    except UserError as error:
        lines = str(error).split("\n")
        odd = [line for line in lines if not line.isprintable() or len(line) > LONGEST_LINE or not line]
        found = ("unexpected", f"a line that is none: {odd[0]!a}") if odd else ("refused", lines[0])
    except BaseException:
        found = ("unexpected", traceback.format_exc())
    else:
        found = _trained(case) if and_train and case.is_toy else ("accepted", "")
    if sorted(Path().iterdir()) != before and found[0] != "accepted":
        return "unexpected", f"{found[0]}, but something was made: {sorted({*Path().iterdir()} - {*before})}"
    return found


def _trained(case: Case) -> tuple[str, str]:
    """Return the outcome of a training of one iteration in a separate process."""
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open("fuzz.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 99
        try:
            from lightbsr_arch.training.command import main

            resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_RUN, LONGEST_RUN))
            signal.alarm(10 * LONGEST_RUN)  # on a busy machine, or for a process that waits
            more = [*case.overrides, "train:total_iter=1"]
            code = main(["train", "-opt", "fuzz.yml", "--force_yml", *more])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = Path("fuzz.log").read_text(errors="replace")
    Path("fuzz.log").unlink()
    if code == 0:
        return "accepted", ""
    if code == 2 and "Traceback" not in said:
        return "refused", said.splitlines()[-1]
    return "unexpected", f"exit code {code}: {said[-3000:]}"


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="how long (%(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case (%(default)s)")
    parser.add_argument("--count", type=int, metavar="N", help="end after this many cases")
    parser.add_argument("--check-only", action="store_true", help="train nothing")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    end = time.monotonic() + 60 * args.minutes
    number = args.first
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["HOME"] = folder  # a data set may be drawn to be ~
        prepare(Path())
        while time.monotonic() < end and (args.count is None or number < args.first + args.count):
            case = make_case(number)
            what, said = outcome(case, and_train=not args.check_only)
            counts[what] += 1
            if what == "unexpected":
                print(f"case {number}, --force_yml {case.overrides!a}: {said}\n", flush=True)
            number += 1
        os.chdir("/")
    print(", ".join(f"{counts[what]} {what}" for what in ("accepted", "refused", "unexpected")))
    return 1 if counts["unexpected"] else 0


if __name__ == "__main__":
    sys.exit(main())
