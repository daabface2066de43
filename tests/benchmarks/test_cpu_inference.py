"""The comparison of programs on the CPU runs with a small network."""

import json

import pytest

from lightbsr.errors import UserError
from lightbsr_arch.bench.models import BICUBIC


@pytest.mark.slow
def test_every_program_is_measured_and_agrees_with_the_plain_form(script, tmp_path):
    file, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text("<!-- cpu_inference: begin -->\n<!-- cpu_inference: end -->\n")
    benchmark = script("cpu_inference")
    benchmark.main(["--tiny", "--threads", "1", "--only", "KDSR-M", "--output", str(file), "--page", str(page)])
    report = json.loads(file.read_text())
    rows = {f"{row['program']}, {row['dtype']}": row for row in report["rows"]}
    assert [*rows][:4] == ["PyTorch, plain, fp32", "PyTorch, fp32", "PyTorch, bf16", "onnxruntime, fp32"]
    for row in rows.values():
        assert "failed" not in row
        assert len(row["seconds"]) == 1
        assert row["median"] == row["seconds"][0] > 0
        assert row["per_megapixel"] == pytest.approx(row["median"] / (24 * 32 / 1e6))
        assert row["memory"] > 0
    assert 0 <= rows["PyTorch, fp32"]["difference"] < 1e-4
    assert rows["PyTorch, bf16"]["difference"] > rows["PyTorch, fp32"]["difference"]
    text = page.read_text()
    assert "| KDSR-M | PyTorch, plain | fp32 |" in text
    assert text.count("| 1.00 | 1.00 |") >= 1
    assert len([line for line in text.splitlines() if line.startswith("| KDSR-M |")]) == len(rows)


def test_a_row_that_fails_states_the_reason_and_the_others_continue(script, capsys):
    benchmark = script("cpu_inference")
    rows = [
        benchmark.Row("missing", benchmark.OURS, "fp32", "missing.safetensors"),
        benchmark.Row("bicubic", benchmark.ONNX, "fp32", BICUBIC),
    ]
    missing, bicubic = benchmark.measure(rows, (16, 16), 1, 2)
    assert missing["failed"].startswith("UserError: missing.safetensors")
    assert len(bicubic["seconds"]) == 2
    report = {"size": (16, 16), "machine": "m", "rows": [missing, bicubic], "left_out": ["x in ncnn (not installed)"]}
    text = benchmark.shown(report)
    assert "| missing | PyTorch | fp32 | failed: UserError: missing.safetensors" in text
    assert text.endswith("\n\nLeft out: x in ncnn (not installed).")


def test_networks_that_do_not_exist_are_refused(script):
    with pytest.raises(UserError, match="--only none: no network has this text in its name"):
        script("cpu_inference").main(["--tiny", "--only", "none"])
