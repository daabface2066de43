"""`--force_yml` sets options that are checked as those of the file are."""

from pathlib import Path

import pytest

from lightbsr_arch.config.load import load_options
from tests.config.conftest import problems

STUDENT = "options/student.yml"


def test_values_are_read_as_yaml(run_folder: Path) -> None:
    entries = ["train:optim_g:lr=5e-4", "num_gpu=0", "train:grad_clip=~", "val:pbar=true", "logger:wandb:project=~"]
    options = load_options(STUDENT, is_train=True, overrides=entries)
    assert options["train"]["optim_g"]["lr"] == 5e-4
    assert options["num_gpu"] == 0
    assert options["train"]["grad_clip"] is None
    assert options["val"]["pbar"] is True
    assert options["logger"]["wandb"] == {"project": None}


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [
        ("train:total_itre=5", "train.total_itre: unknown-key"),
        ("trian:total_iter=5", "trian: unknown-key"),
        ("val:pbar=3", "val.pbar: invalid-value"),
        ("train:total_iter=0", "train.total_iter: invalid-value"),
        ("network_g:restorer:scale=3", "network_g.restorer.scale: scale-mismatch"),
        ("train:total_iter", "invalid-override"),
        ("train:=1", "invalid-override"),
        ("name:x=1", "not-a-section"),
        ("name=!!python/name:os.getcwd ~", "forbidden-tag"),
        ("name=[", "invalid-yaml"),
        (
            "datasets:train={name: t, type: GTDataset, dataroot_gt: none, io_backend: {type: disk}, gt_size: 96, "
            "num_worker_per_gpu: 0, batch_size_per_gpu: 1}",
            "datasets.train.dataroot_gt: missing-folder",
        ),
    ],
)  # fmt: skip
def test_refused(run_folder: Path, entry: str, refusal: str) -> None:
    assert problems(STUDENT, entry) == [f"--force_yml: {refusal}"]


def test_what_an_override_mends_is_not_reported(run_folder: Path) -> None:
    text = Path(STUDENT).read_text().replace("num_gpu: auto", "num_gpu: many")
    Path(STUDENT).write_text(text)
    assert problems(STUDENT, "num_gpu=0") == []
