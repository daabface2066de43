"""The plain versions against recorded outputs of the published networks, where the checkout has them beside it."""

import pytest
import torch

from tests.golden import golden, needs_family, needs_golden
from tests.reference import family, kdsr, lightbsr

PLAIN = {
    "kdsr_student_x2_f16b2r1": kdsr.outputs,
    "kdsr_student_x4_f16b3r2": kdsr.outputs,
    "kdsr_teacher_x4_f16b3r2": kdsr.outputs,
    "lightbsr_student_x4": lightbsr.outputs,
    "family/dasr_x4": family.dasr,
    "family/cdcl_x4": family.cdcl,
    "family/mrda_x4": family.mrda,
    "family/mmrealsr_x4": family.mmrealsr,
}


@needs_golden
@needs_family
@pytest.mark.parametrize("name", PLAIN)
def test_plain_versions_give_the_published_outputs(name):
    io = golden(name, "io")
    weights = {key: value.float() for key, value in golden(name, "w").items()}
    found = PLAIN[name](weights, io["lq"], *([io["gt"]] if "gt" in io else []))
    assert found.keys() <= io.keys()
    for output, value in found.items():
        torch.testing.assert_close(value, io[output], atol=1e-4, rtol=0, msg=lambda text, one=output: f"{one}: {text}")


@needs_family
def test_mmrealsr_restores_under_degrees_set_by_hand():
    io = golden("family/mmrealsr_x4", "io")
    weights = {key: value.float() for key, value in golden("family/mmrealsr_x4", "w").items()}
    found = family.mmrealsr(weights, io["lq"], torch.tensor([[0.3, 0.8]]).expand(len(io["lq"]), -1))
    torch.testing.assert_close(found["sr"], io["sr_at_0.3_0.8"], atol=1e-4, rtol=0)
