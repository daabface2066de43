"""What an options file names must be there, and of the kind that the file says."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

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
    missing = f"options/student.yml:{line}: path.pretrain_network_teacher: no such file: {weights} (in {run_folder})"
    assert problems() == [f"{missing}; train it first: basicsr train -opt options/teacher.yml"]
    write("options/teacher.yml", "name: another\n")
    assert problems() == [missing]


def test_missing_weights_and_states(run_folder: Path, student: str) -> None:
    write(
        "options/student.yml",
        student.replace("\npath:", "\npath:\n  resume_state: /no/5.state\n  pretrain_network_g: ~/no.pth"),
    )
    line = line_of("\npath:", student)
    assert problems() == [
        f"options/student.yml:{line + 1}: path.resume_state: no such file: /no/5.state",
        f"options/student.yml:{line + 2}: path.pretrain_network_g: no such file: ~/no.pth",
    ]


@pytest.mark.parametrize(
    ("root", "backend", "text"),
    [
        ("no/such.lmdb", "lmdb", "no such folder: no/such.lmdb (in {folder}); the top of options/student.yml says what "
         "makes it"),
        ("/no/such", "disk", "no such folder: /no/such; the top of options/student.yml says what makes it"),
        ("photos", "lmdb", "photos is no LMDB, whose name ends in .lmdb; a folder of images wants `io_backend: "
         "{{type: disk}}`"),
        ("data.lmdb", "disk", "data.lmdb is an LMDB, which wants `io_backend: {{type: lmdb}}`"),
        ("half.lmdb", "lmdb", "half.lmdb is no complete LMDB: it lacks meta_info.txt; make it anew"),
    ],
)  # fmt: skip
def test_data_that_is_not_what_io_backend_says(
    run_folder: Path, student: str, root: str, backend: str, text: str
) -> None:
    Path("photos").mkdir()
    make_lmdb(Path("data.lmdb"))
    make_lmdb(Path("half.lmdb"))
    Path("half.lmdb/meta_info.txt").unlink()
    student = with_val_set(student, root, backend)
    write("options/student.yml", student)
    line = line_of(GT + root, student)
    assert problems() == [f"options/student.yml:{line}: datasets.val.dataroot_gt: {text.format(folder=run_folder)}"]


def test_pairs_that_do_not_match_are_named(run_folder: Path, student: str) -> None:
    for name, side in (("gt/1.png", 64), ("lq/1.png", 16), ("gt/2.png", 64), ("lq/3.png", 16)):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, np.zeros((side, side, 3), np.uint8))
    before, after = student.split(GT)
    after = after[after.index("\n\n") :]
    pairs = "  val:\n    name: Real\n    type: PairDataset\n    dataroot_gt: gt\n    dataroot_lq: lq\n"
    write("options/student.yml", f"{before}{pairs}    io_backend: {{type: disk}}{after}")
    line = line_of(pairs.splitlines()[0], f"{before}{pairs}")
    expected = "2.png has no LR picture 2.png in lq; 3.png in lq has no HR picture in gt"
    assert problems() == [f"options/student.yml:{line}: datasets.val: {expected}"]
    Path("lq/3.png").rename("lq/2.png")
    assert problems() == []
    cv2.imwrite("lq/2.png", np.zeros((32, 32, 3), np.uint8))
    assert problems() == [
        f"options/student.yml:{line}: datasets.val: 2.png: HR 64x64 and LR 32x32, expected LR 16x16 for x4"
    ]


@pytest.mark.parametrize("path", option_files.ALL, ids=lambda path: path.stem)
def test_every_options_file_lacks_nothing_but_its_data(run_folder: Path, path: Path) -> None:
    assert all(": no such f" in line for line in problems(str(path), is_train=not path.stem.startswith("test")))


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
        f"options/student.yml:{line}: network_teacher.restorer.num_block: 8, but the restorer of "
        "kdsr_s_x4_iso_teacher (path.pretrain_network_teacher) has 16: make them equal"
    ]
    sixteen = ("network_g:restorer:num_block=16", "network_teacher:restorer:num_block=16")
    assert problems("options/student.yml", shipped, *sixteen) == []
    own = ("path:pretrain_network_g=kdsr_s_x4_iso", "path:strict_load_g=false")
    assert problems("options/student.yml", *own) == []
    assert len(problems("options/student.yml", own[0])) == 1
    other = "network_g:estimator={type: KDIDETeacher, num_feat: 32, num_block: 2, scale: 4}"
    found = problems("options/student.yml", own[0], other, sixteen[0], "network_teacher:restorer:num_block=16")
    assert found == [
        "--force_yml: network_g.estimator.type: KDIDETeacher, but the estimator of kdsr_s_x4_iso "
        "(path.pretrain_network_g) has KDIDEStudent: make them equal"
    ]


def test_a_student_starts_from_a_restorer_of_its_size(run_folder: Path, student: str) -> None:
    more = "network_g:restorer:num_block=9"
    assert problems("options/student.yml", more) == [
        "--force_yml: network_g.restorer.num_block: 9, but the restorer of network_teacher, whose weights it starts "
        "from unless path.pretrain_network_g names others, has 8: make them equal"
    ]
    assert len(problems("options/student.yml", more, "train:start_from_teacher=restorer")) == 1
    assert problems("options/student.yml", more, "train:start_from_teacher=none") == []


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("name", "../../Documents", "the name holds '/', which separates folders"),
        ("name", ".", "the name stands for a folder, not for a name"),
        ("name", "x" * 201, "the name has 201 bytes, more than 200"),
        ("val:suffix", "../a", "the name holds '/', which separates folders"),
        ("datasets:val:name", "a\\b", r"the name holds '\\', which separates folders"),
    ],
)
def test_names_that_lead_elsewhere(run_folder: Path, key: str, value: str, text: str) -> None:
    expected = f"--force_yml: {key.replace(':', '.')}: {text}; it must be the name of one file or folder"
    assert problems("options/student.yml", f"{key}={value}") == [expected]


def test_names_of_metrics_and_networks(run_folder: Path, student: str) -> None:
    write("options/student.yml", student.replace("    psnr_y: {", "    ../psnr: {"))
    (problem,) = problems()
    assert ": val.metrics.../psnr: the metric's name holds '/', which separates folders" in problem


@pytest.mark.parametrize("line", ["/etc/passwd.png (1,1,3) 1", "a/../../b (1,1,3) 1"])
def test_lists_of_pictures_that_lead_elsewhere(run_folder: Path, line: str) -> None:
    meta_info = Path("datasets/demo/held_out.lmdb/meta_info.txt")
    meta_info.write_text(f"a.png (1,1,3) 1\n{line}\n")
    (problem,) = problems()
    assert "datasets.val.dataroot_gt: datasets/demo/held_out.lmdb/meta_info.txt line 2: the picture's name " in problem


def test_weights_and_biases_must_be_installed(run_folder: Path) -> None:
    if find_spec("wandb") is not None:
        pytest.skip("Weights & Biases is installed here")
    text = "logger.wandb.project: Weights & Biases is not installed: pip install wandb"
    assert problems("options/student.yml", "logger:wandb:project=p") == [f"--force_yml: {text}"]
