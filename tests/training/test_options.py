"""Options in the form that BasicSR's code expects."""

import pytest

from lightbsr_arch.training.options import complete_options


@pytest.mark.parametrize("val", [None, {"val_freq": 5000}])
def test_debug_logs_saves_and_validates_often(val, tmp_path):
    opt = {
        "name": "run", "scale": 4, "num_gpu": 0, "datasets": {}, "path": {}, "val": val, "logger": {"print_freq": 100},
    }  # fmt: skip
    complete_options(opt, is_train=True, root=tmp_path, debug=True)
    assert opt["name"] == "debug_run"
    assert opt["logger"] == {"print_freq": 1, "save_checkpoint_freq": 8}
    assert opt["val"] == (val and {"val_freq": 8})
