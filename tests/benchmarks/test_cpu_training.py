"""The benchmark of training steps on the CPU runs with small networks."""

import json

import pytest

from lightbsr.errors import UserError


@pytest.mark.slow
def test_forms_and_parts_of_a_step_are_measured(script, tmp_path):
    file, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text("<!-- cpu_training: begin -->\n<!-- cpu_training: end -->\n")
    script("cpu_training").main(
        ["--tiny", "--threads", "1", "--only", "bsr_s_x4", "--output", str(file), "--page", str(page)]
    )
    report = json.loads(file.read_text())
    assert [*report["entries"]] == ["lightbsr_s_x4_iso"]
    forms = report["entries"]["lightbsr_s_x4_iso"]
    assert [*forms] == ["plain", "plain, bf16", "fp32, channels_last", "bf16, channels_last"]
    assert forms["plain"]["faster"] == 1
    step = report["steps"]["lightbsr_s_x4_iso"]
    assert (step["batch"], step["lq"], step["amp"]) == (2, 16, "bf16")
    assert sum(step["shares"].values()) == pytest.approx(1)
    assert min(step["shares"][part] for part in ("degradation", "teacher", "estimator", "restorer", "backward")) > 0
    assert -0.01 < step["shares"]["rest"] < 0.5
    text = page.read_text()
    seconds = forms["plain, bf16"]["seconds"]
    assert f"| lightbsr_s_x4_iso | plain, bf16 | {seconds:.3f} | {2 / seconds:.2f} |" in text
    assert "| lightbsr_s_x4_iso | 2 x 16x16 | bf16 |" in text


def test_compiled_forms_come_last_and_large_networks_are_compiled_on_request(script, tmp_path):
    benchmark = script("cpu_training")
    names = ["KDSR-M", "kdsr_s_x4_iso"]
    usual, every = (
        [entry.name for _, entry in benchmark.all_entries(names, tmp_path, compile_all, False)]
        for compile_all in (False, True)
    )
    compiled = ["bf16, channels_last, compile", "fp32, channels_last, compile"]
    assert usual == [*names, *(f"kdsr_s_x4_iso, {form}" for form in compiled)]
    assert every == [*names, *(f"{name}, {form}" for form in compiled for name in names)]


def test_recipes_that_do_not_exist_are_refused(script):
    with pytest.raises(UserError, match="--only none: no recipe has this text in its name; there are KDSR-M, "):
        script("cpu_training").main(["--tiny", "--only", "none"])
