"""Restored images that a validation saves."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.models import sr_model

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.pictures import PictureWriter, patched_pictures


@pytest.mark.parametrize("name", ["../0_9.png", "a\0/0.png", "a/a\nb.png", "a/" + "x" * 300 + ".png"])
def test_pictures_are_saved_in_their_folder_alone(tmp_path: Path, name: str) -> None:
    with patched_pictures(), pytest.raises(UserError, match="a picture cannot be saved as"):
        sr_model.imwrite(np.zeros((4, 4, 3), np.uint8), f"{tmp_path}/visualization/{name}")
    assert list(tmp_path.iterdir()) == []


def test_a_second_picture_of_a_name_does_not_replace_the_first(tmp_path: Path) -> None:
    write = PictureWriter()
    for grey in (10, 20):
        write(np.full((4, 4, 3), grey, np.uint8), str(tmp_path / "v/a_x4.png"))
    assert {path.name: cv2.imread(str(path))[0, 0, 0] for path in (tmp_path / "v").iterdir()} == {
        "a_x4.png": 10,
        "a_x4-2.png": 20,
    }
