"""What an options file names must be there, and of the kind that the file says."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightbsr_arch.archs import MRDAMetaNet
from lightbsr_arch.checkpoint import Checkpoint
from lightbsr_arch.config.load import load_options
from lightbsr_arch.option_types.problems import OptionsError
from tests import option_files
from tests.config.conftest import STUDENT, make_lmdb, problems, write
from tests.config.test_mutations import line_of

GT = "  val:\n    name: DemoHeldOut\n    type: DegradedDataset\n    dataroot_gt: "


@pytest.fixture
def student(run_folder: Path) -> str:
    return STUDENT.read_text()


def with_val_set(student: str, root: str, backend: str) -> str:
    """The student's file with another validation set."""
    before, after = student.split(GT)
    after = after.split("\n", 2)[2]
    return f"{before}{GT}{root}\n    io_backend: {{type: {backend}}}\n{after}"


def test_the_teacher_is_trained_first(run_folder: Path, student: str) -> None:
    write("options/teacher.yml", "name: kdsr_s_x4_iso_teacher\n")
    weights = Path("experiments/kdsr_s_x4_iso_teacher/models/net_g_latest.pth")
    weights.unlink()
    line = line_of("pretrain_network_teacher", student)
    expected = [f"options/student.yml:{line}: path.pretrain_network_teacher: missing-file"]
    assert problems() == expected
    write("options/teacher.yml", "name: another\n")
    assert problems() == expected


def test_missing_weights_and_states(run_folder: Path, student: str) -> None:
    write(
        "options/student.yml",
        student.replace("\npath:", "\npath:\n  resume_state: /no/5.state\n  pretrain_network_g: ~/no.pth"),
    )
    line = line_of("\npath:", student)
    assert problems() == [
        f"options/student.yml:{line + 1}: path.resume_state: missing-file",
        f"options/student.yml:{line + 2}: path.pretrain_network_g: missing-file",
    ]


@pytest.mark.parametrize(
    ("root", "backend", "code"),
    [
        ("no/such.lmdb", "lmdb", "missing-folder"),
        ("/no/such", "disk", "missing-folder"),
        ("photos", "lmdb", "wrong-backend"),
        ("data.lmdb", "disk", "wrong-backend"),
        ("half.lmdb", "lmdb", "incomplete-lmdb"),
    ],
)
def test_data_that_is_not_what_io_backend_says(
    run_folder: Path, student: str, root: str, backend: str, code: str
) -> None:
    Path("photos").mkdir()
    make_lmdb(Path("data.lmdb"))
    make_lmdb(Path("half.lmdb"))
    Path("half.lmdb/meta_info.txt").unlink()
    student = with_val_set(student, root, backend)
    write("options/student.yml", student)
    line = line_of(GT + root, student)
    assert problems() == [f"options/student.yml:{line}: datasets.val.dataroot_gt: {code}"]


def test_pairs_that_do_not_match_are_named(run_folder: Path, student: str) -> None:
    for name, side in (("gt/1.png", 64), ("lq/1.png", 16), ("gt/2.png", 64), ("lq/3.png", 16)):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, np.zeros((side, side, 3), np.uint8))
    before, after = student.split(GT)
    after = after[after.index("\n\n") :]
    pairs = "  val:\n    name: Real\n    type: PairDataset\n    dataroot_gt: gt\n    dataroot_lq: lq\n"
    write("options/student.yml", f"{before}{pairs}    io_backend: {{type: disk}}{after}")
    line = line_of(pairs.splitlines()[0], f"{before}{pairs}")
    assert problems() == [f"options/student.yml:{line}: datasets.val: unpaired-pictures"]
    Path("lq/3.png").rename("lq/2.png")
    assert problems() == []
    cv2.imwrite("lq/2.png", np.zeros((32, 32, 3), np.uint8))
    assert problems() == [f"options/student.yml:{line}: datasets.val: unpaired-pictures"]


@pytest.mark.parametrize("path", option_files.ALL, ids=lambda path: path.stem)
def test_every_options_file_lacks_nothing_but_its_data(run_folder: Path, path: Path) -> None:
    assert codes_of(path) <= {"missing-file", "missing-folder", "vgg-weights"}


def codes_of(path: Path) -> set[str]:
    """Return the codes without recording the texts, which name the recipe and its data."""
    try:
        load_options(path, is_train=not path.stem.startswith("test"))
    except OptionsError as error:
        return {problem.code for problem in error.problems}
    return set()


def test_a_folder_of_images_and_the_home_folder(
    run_folder: Path, student: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(run_folder))
    Path("photos").mkdir()
    write("options/student.yml", with_val_set(student, "~/photos", "disk"))
    assert problems() == []


def test_weights_of_another_size(run_folder: Path, student: str) -> None:
    shipped = "path:pretrain_network_teacher=kdsr_s_x4_iso_teacher"
    line = line_of("num_block: 8", student[student.index("network_teacher") :])
    line += student[: student.index("network_teacher")].count("\n")
    assert problems("options/student.yml", shipped) == [
        f"options/student.yml:{line}: network_teacher.restorer.num_block: weights-mismatch"
    ]
    sixteen = ("network_g:restorer:num_block=16", "network_teacher:restorer:num_block=16")
    assert problems("options/student.yml", shipped, *sixteen) == []
    own = ("path:pretrain_network_g=kdsr_s_x4_iso", "path:strict_load_g=false")
    assert problems("options/student.yml", *own) == []
    assert len(problems("options/student.yml", own[0])) == 1
    other = "network_g:estimator={type: KDIDETeacher, num_feat: 32, num_block: 2, scale: 4}"
    found = problems("options/student.yml", own[0], other, sixteen[0], "network_teacher:restorer:num_block=16")
    assert found == ["--force_yml: network_g.estimator.type: weights-mismatch"]


def test_weights_of_another_kind_of_network(run_folder: Path) -> None:
    network = MRDAMetaNet(num_feat=8, num_block=1)
    Checkpoint(network.state_dict(), network.config, type="MRDAMetaNet").save("meta.safetensors")
    found = problems("options/student.yml", "path:pretrain_network_g=meta.safetensors")
    assert found == ["--force_yml: path.pretrain_network_g: weights-mismatch"]


def test_a_teacher_without_a_restorer(run_folder: Path) -> None:
    edsr = "network_teacher={type: EDSR, num_in_ch: 3, num_out_ch: 3, upscale: 4}"
    assert problems("options/student.yml", edsr) == ["--force_yml: network_teacher.type: networks-conflict"]


def test_a_student_starts_from_a_restorer_of_its_size(run_folder: Path, student: str) -> None:
    more = "network_g:restorer:num_block=9"
    assert problems("options/student.yml", more) == ["--force_yml: network_g.restorer.num_block: weights-mismatch"]
    assert len(problems("options/student.yml", more, "train:start_from_teacher=restorer")) == 1
    assert problems("options/student.yml", more, "train:start_from_teacher=none") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../Documents"),
        ("name", "."),
        ("name", "x" * 201),
        ("val:suffix", "../a"),
        ("datasets:val:name", "a\\b"),
    ],
)
def test_names_that_lead_elsewhere(run_folder: Path, key: str, value: str) -> None:
    assert problems("options/student.yml", f"{key}={value}") == [f"--force_yml: {key.replace(':', '.')}: unsafe-name"]


def test_names_of_metrics_and_networks(run_folder: Path, student: str) -> None:
    write("options/student.yml", student.replace("    psnr_y: {", "    ../psnr: {"))
    (problem,) = problems()
    assert problem.endswith(": val.metrics.../psnr: unsafe-name")


@pytest.mark.parametrize("line", ["/etc/passwd.png (1,1,3) 1", "a/../../b (1,1,3) 1"])
def test_lists_of_pictures_that_lead_elsewhere(run_folder: Path, line: str) -> None:
    meta_info = Path("datasets/demo/held_out.lmdb/meta_info.txt")
    meta_info.write_text(f"a.png (1,1,3) 1\n{line}\n")
    (problem,) = problems()
    assert problem.endswith(": datasets.val.dataroot_gt: unsafe-path")


def test_weights_and_biases_must_be_installed(run_folder: Path) -> None:
    if find_spec("wandb") is not None:
        pytest.skip("Weights & Biases is installed here")
    assert problems("options/student.yml", "logger:wandb:project=p") == [
        "--force_yml: logger.wandb.project: not-installed"
    ]
