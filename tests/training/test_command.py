"""The ``basicsr`` command with a network and a data set of BasicSR."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from lightbsr_arch.training.command import build_parser, main
from tests.commands import run_module

pytestmark = pytest.mark.slow

OPTIONS = yaml.safe_load("""
name: toy
model_type: SRModel
scale: 2
num_gpu: 1
manual_seed: 3
datasets:
  train: {name: toy, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, io_backend: {type: disk}, gt_size: 16,
          use_hflip: true, use_rot: true, num_worker_per_gpu: 1, batch_size_per_gpu: 3, dataset_enlarge_ratio: 1}
  val: {name: toyval, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, io_backend: {type: disk}}
network_g: {type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 2}
path: {}
train:
  ema_decay: 0.9
  optim_g: {type: Adam, lr: 0.01}
  scheduler: {type: MultiStepLR, milestones: [6, 6], gamma: 0.5}
  total_iter: 11
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: 6
  save_img: false
  metrics: {psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: false}}
logger: {print_freq: 1, save_checkpoint_freq: 4, use_tb_logger: true}
""")

PLUGIN = """
import os, signal, time
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY

@MODEL_REGISTRY.register()
class InterruptedModel(SRModel):
    def optimize_parameters(self, current_iter):
        if current_iter == 5:
            os.killpg(0, signal.SIGINT)  # as a terminal does, to the loader's processes too
            time.sleep(0.5)
        super().optimize_parameters(current_iter)
"""


class Trap:
    """Executes code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def make_plugin(site: Path, name: str, source: str) -> None:
    """Write the metadata that pip installs for a distribution with an entry point."""
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[basicsr.plugins]\n{name} = {name}\n")


def write_options(folder: Path, name: str, **changes: object) -> str:
    """Write an options file NAME.yml. ``train__total_iter=3`` changes a nested option."""
    options = yaml.safe_load(yaml.safe_dump(OPTIONS))
    options["name"] = name
    for key, value in changes.items():
        *sections, last = key.split("__")
        section = options
        for part in sections:
            section = section[part]
        section[last] = value
    (folder / f"{name}.yml").write_text(yaml.safe_dump(options))
    return f"{name}.yml"


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module("lightbsr_arch.training", *arguments, cwd=folder, path=[folder / "site"])


def launch_two(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "lightbsr_arch.training", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def losses(output: str) -> dict[int, float]:
    found = re.findall(r"iter: +(\d+), .*l_pix: (\S+)", output)
    return {int(iteration): float(loss) for iteration, loss in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make eight toy pairs and a plugin."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    for name, size in (("gt", 32), ("lq", 16)):
        (folder / name).mkdir()
        for number in range(8):
            cv2.imwrite(str(folder / name / f"{number}.png"), rng.integers(0, 256, (size, size, 3), np.uint8))
    (folder / "site").mkdir()
    make_plugin(folder / "site", "interrupting", PLUGIN)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> subprocess.CompletedProcess[str]:
    return launch(folder, "train", "-opt", write_options(folder, "whole"))


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> subprocess.CompletedProcess[str]:
    return launch(folder, "train", "-opt", write_options(folder, "parts", model_type="InterruptedModel"))


def test_trains_validates_saves(folder: Path, whole: subprocess.CompletedProcess[str]) -> None:
    assert whole.returncode == 0, whole.stderr
    assert "num_gpu 1 becomes 0, the CPU" in whole.stderr
    # 8 images in batches of 3 make 2 iterations per epoch. BasicSR would count 3 and run too few.
    assert list(losses(whole.stderr)) == list(range(1, 12))
    # Iteration 6 and the end are saved. BasicSR itself would number the end 12.
    psnr = [float(value) for value in re.findall(r"# psnr: ([\d.]+)", whole.stderr)]
    assert len(psnr) == 2
    assert all(5 < value < 40 for value in psnr)
    assert {int(number) for number in re.findall(r"@ (\d+) iter", whole.stderr)} <= {6, 11}
    experiment = folder / "experiments/whole"
    networks = sorted(file.name for file in (experiment / "models").iterdir())
    assert networks == ["net_g_11.pth", "net_g_4.pth", "net_g_8.pth", "net_g_latest.pth"]
    states = sorted(file.name for file in (experiment / "training_states").iterdir())
    assert states == ["11.state", "4.state", "8.state"]
    assert list((folder / "tb_logger/whole").iterdir())
    assert "training/__main__.py train -opt whole.yml" in (experiment / "whole.yml").read_text()


def test_ctrl_c_saves_and_names_the_way_on(folder: Path, interrupted: subprocess.CompletedProcess[str]) -> None:
    assert interrupted.returncode == 130, interrupted.stderr
    assert list(losses(interrupted.stderr)) == [1, 2, 3, 4, 5]
    assert "saved iteration 5. To continue: basicsr train -opt parts.yml --auto_resume" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert (folder / "experiments/parts/training_states/5.state").is_file()


def test_slurm_s_sigterm_reaches_the_loader_s_processes_too(folder: Path) -> None:
    plugin = PLUGIN.replace("InterruptedModel", "TerminatedModel").replace("SIGINT", "SIGTERM")
    make_plugin(folder / "site", "terminating", plugin)
    done = launch(folder, "train", "-opt", write_options(folder, "terminated", model_type="TerminatedModel"))
    assert done.returncode == 143, done.stderr
    assert "saved iteration 5. To continue: basicsr train -opt terminated.yml --auto_resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "experiments/terminated/training_states/5.state").is_file()


def test_resumed_run_is_the_uninterrupted_one(
    folder: Path, whole: subprocess.CompletedProcess[str], interrupted: subprocess.CompletedProcess[str]
) -> None:
    assert interrupted.returncode == 130
    # Iteration 5 is the first of the two in its epoch; loading without workers must not change the samples.
    options = write_options(folder, "parts", datasets__train__num_worker_per_gpu=0)
    resumed = launch(folder, "train", "-opt", options, "--auto_resume")
    assert resumed.returncode == 0, resumed.stderr
    expected = {key: value for key, value in losses(whole.stderr).items() if key > 5}
    assert losses(resumed.stderr) == pytest.approx(expected, abs=1e-6)
    assert len(set(expected.values())) == 6
    ends = [
        torch.load(folder / f"experiments/{name}/models/net_g_latest.pth", weights_only=True)
        for name in ("whole", "parts")
    ]
    for key in ("params", "params_ema"):
        torch.testing.assert_close(ends[0][key], ends[1][key], rtol=0, atol=1e-6)
    assert [path.name for path in (folder / "experiments").glob("parts*")] == ["parts"]


def test_a_finished_run_is_extended_and_not_shortened(folder: Path, whole: subprocess.CompletedProcess[str]) -> None:
    assert whole.returncode == 0
    latest = folder / "experiments/whole/models/net_g_latest.pth"
    before = latest.read_bytes()
    shorter = launch(folder, "train", "-opt", "whole.yml", "--auto_resume", "--force_yml", "train:total_iter=10")
    assert shorter.returncode == 2
    assert "11.state: iteration 11 is beyond train.total_iter, 10" in shorter.stderr
    assert latest.read_bytes() == before
    (folder / "broken").mkdir()
    (folder / "broken/a.png").write_bytes(b"no picture")
    longer = ["train:total_iter=13", "val:val_freq=12"]
    longer += [f"datasets:val:dataroot_{kind}=broken" for kind in ("gt", "lq")]
    failed = launch(folder, "train", "-opt", "whole.yml", "--auto_resume", "--force_yml", *longer)
    assert failed.returncode == 2, failed.stderr
    assert list(losses(failed.stderr)) == [12]
    assert "iteration 12 is saved: --auto_resume continues from it" in failed.stderr
    assert (folder / "experiments/whole/training_states/12.state").is_file()


def test_a_file_for_training_can_be_tested(folder: Path, whole: subprocess.CompletedProcess[str]) -> None:
    assert whole.returncode == 0
    weights = "path:pretrain_network_g=experiments/whole/models/net_g_latest.pth"
    done = launch(folder, "test", "-opt", "whole.yml", "--force_yml", "val:suffix=~", weights)
    assert done.returncode == 0, done.stderr
    assert "datasets.train is for training: not tested." in done.stderr
    assert len(re.findall(r"# psnr: ([\d.]+)", done.stderr)) == 1


def test_refused_state_is_one_line(folder: Path) -> None:
    torch.save({"epoch": 1, "iter": 4, "optimizers": [Trap()], "schedulers": []}, folder / "trap.state")
    options = write_options(folder, "trapped", path={"resume_state": "trap.state"})
    done = launch(folder, "train", "-opt", options)
    assert done.returncode == 2
    assert [line[:12] for line in done.stderr.splitlines() if "num_gpu" not in line] == ["trap.state: "]
    assert not (folder / "executed").exists()
    assert not (folder / "experiments/trapped").exists()


def test_failure_of_the_first_iteration_leaves_the_older_run_alone(folder: Path) -> None:
    older = folder / "experiments/grey/models"
    older.mkdir(parents=True)
    log_of_older = folder / "tb_logger/grey"
    log_of_older.mkdir(parents=True)
    plugin = PLUGIN.replace("InterruptedModel", "FailingModel").replace("os.killpg(0, signal.SIGINT)", "1 / 0")
    make_plugin(folder / "site", "failing", plugin.replace("== 5", "== 1"))
    done = launch(folder, "train", "-opt", write_options(folder, "grey", model_type="FailingModel"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert [path.name for path in (folder / "experiments").glob("*grey*")] == ["grey"]
    assert [path.name for path in older.parent.iterdir()] == ["models"]
    assert [path.name for path in (folder / "tb_logger").glob("grey*")] == ["grey"]


def test_validation_at_the_last_iteration_runs_once(folder: Path) -> None:
    options = write_options(folder, "once", train__total_iter=2, val__val_freq=2)
    done = launch(folder, "train", "-opt", options)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("# psnr", done.stderr)) == 1
    assert "@ 2 iter" in done.stderr
    log = next((folder / "experiments/once").glob("train_once_*.log")).read_text()
    assert "Number of train images: 8" in log  # logged before the file existed
    assert "# psnr" in log


def test_tests(folder: Path, whole: subprocess.CompletedProcess[str]) -> None:
    assert whole.returncode == 0
    options = write_options(
        folder,
        "trained",
        datasets={"test_1": OPTIONS["datasets"]["val"]},
        path={"pretrain_network_g": "experiments/whole/models/net_g_latest.pth", "param_key_g": "params_ema"},
        val={"save_img": True, "suffix": None, "metrics": OPTIONS["val"]["metrics"]},
    )
    done = launch(folder, "test", "-opt", options, "--force_yml", "val:suffix=x2")
    assert done.returncode == 0, done.stderr
    # This is the network of the last validation in training.
    assert re.findall(r"# psnr: (\S+)", done.stderr)[-1] == re.findall(r"# psnr: (\S+)", whole.stderr)[-1]
    assert len(list((folder / "results/trained/visualization/toyval").glob("*_x2.png"))) == 8


def test_two_processes_on_the_cpu(folder: Path) -> None:
    options = write_options(
        folder, "pair", train__total_iter=3, datasets__train__num_worker_per_gpu=0, logger__save_checkpoint_freq=2
    )
    done = launch_two(folder, "train", "-opt", options, "--launcher", "pytorch")
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(losses(done.stderr)) == [1, 2, 3]
    assert (folder / "experiments/pair/models/net_g_latest.pth").is_file()
    assert (folder / "experiments/pair/training_states/2.state").is_file()
    assert len(re.findall("# psnr", done.stderr)) == 1


def test_broken_plugin_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plugin(tmp_path, "hopeless", "import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("basicsr"), "handlers", [])  # as if no run had started
    assert main(["train", "-opt", "any.yml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("BasicSR plugin hopeless of hopeless 1.2 cannot be imported: ModuleNotFoundError: ")


def test_flags_of_basicsr() -> None:
    line = "train -opt a.yml --launcher slurm --auto_resume --debug --local-rank 1 --force_yml scale=2 val:suffix=a"
    args = build_parser().parse_args(line.split())
    assert (args.opt, args.launcher, args.auto_resume, args.debug) == ("a.yml", "slurm", True, True)
    assert args.local_rank == 1
    assert args.force_yml == ["scale=2", "val:suffix=a"]
    assert build_parser().parse_args(["test", "-opt", "a.yml", "--local_rank", "2"]).local_rank == 2
