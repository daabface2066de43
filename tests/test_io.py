"""Files are complete or not written."""

import errno

import pytest

from lightbsr.errors import UserError
from lightbsr_arch.io import whole_file, write_whole


@pytest.mark.parametrize("name", ["a.png", "n" * 251 + ".png", "é" * 125 + ".png", "𝄞" * 62 + ".png", ".hidden"])
def test_every_name_that_the_file_system_takes(name, tmp_path):
    write_whole(tmp_path / name, b"first")
    write_whole(tmp_path / name, b"second")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {name: b"second"}


def write_half(path, error):
    with whole_file(path) as unfinished:
        unfinished.write_bytes(b"half")
        raise error


def test_after_an_error_all_is_as_before(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"before")
    with pytest.raises(UserError, match=r"a\.json: cannot be written: No space left on device$"):
        write_half(path, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.json": b"before"}


@pytest.mark.parametrize("name", ["no/such/folder.png", "a_file/in_it.png", "n" * 256, "a_folder"])
def test_what_cannot_be_written_is_one_line(name, tmp_path):
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder").mkdir()
    with pytest.raises(UserError, match=f"^{tmp_path}/{name}: cannot be written: [A-Z]"):
        write_whole(tmp_path / name, b"")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_file", "a_folder"]
