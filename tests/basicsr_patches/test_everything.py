"""The names of BasicSR that are replaced, and the time of their replacement."""

import subprocess
import sys

import pytest
from basicsr.archs import vgg_arch
from basicsr.data import prefetch_dataloader
from basicsr.models import sr_model
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import METRIC_REGISTRY

from lightbsr_arch.basicsr_patches.everything import patched_basicsr

METHODS = ["load_network", "model_to_device", "resume_training", "save_network", "save_training_state"]

# Records every name of every module and class of BasicSR and torchvision, and prints those that an import replaces.
REPLACED_NAMES = """
import sys, types
from torchvision.transforms.functional import rgb_to_grayscale

shim = types.ModuleType("torchvision.transforms.functional_tensor")
shim.rgb_to_grayscale = rgb_to_grayscale
sys.modules[shim.__name__] = shim  # or BasicSR cannot be imported
import basicsr.train, basicsr.test
import torchvision.models

def names():
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in ("basicsr", "torchvision"):
            for name, value in list(vars(module).items()):
                found[f"{module_name}.{name}"] = value
                if isinstance(value, type) and value.__module__ == module_name:
                    found.update({f"{module_name}.{name}.{key}": item for key, item in list(vars(value).items())})
    for registry in ("ARCH", "DATASET", "LOSS", "METRIC", "MODEL"):
        entries = getattr(sys.modules["basicsr.utils.registry"], f"{registry}_REGISTRY")._obj_map
        found.update({f"{registry}.{name}": value for name, value in entries.items()})
    return found

before = names()
import lightbsr_arch
lightbsr_arch.upscale
after = names()
assert "MODEL.KDStudentModel" in after.keys() - before.keys()
assert len(before) > 3000
print(sorted(name for name, value in before.items() if after.get(name) is not value))
"""


def in_a_fresh_process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_the_import_replaces_no_name_of_basicsr() -> None:
    assert in_a_fresh_process(REPLACED_NAMES) == "[]"


@pytest.mark.slow
def test_the_import_adds_one_module_without_which_basicsr_cannot_be_imported() -> None:
    program = "import lightbsr_arch, sys; from basicsr.data import degradations; module = sys.modules[{}]; print({})"
    name = "'torchvision.transforms.functional_tensor'"
    found = "sorted(name for name in vars(module) if not name.startswith('_'))"
    assert in_a_fresh_process(program.format(name, found)) == "['rgb_to_grayscale']"


@pytest.mark.slow
def test_methods_of_basicsr_s_models_are_basicsr_s_after_the_import() -> None:
    program = (
        "import lightbsr_arch; lightbsr_arch.upscale; from basicsr.models.base_model import BaseModel; "
        "print({value.__module__ for value in vars(BaseModel).values() if callable(value)})"
    )
    assert in_a_fresh_process(program) == "{'basicsr.models.base_model'}"


def test_the_command_replaces_these_names_and_restores_them() -> None:
    def names() -> dict[str, object]:
        return {
            **{f"BaseModel.{name}": value for name, value in vars(BaseModel).items() if callable(value)},
            "PrefetchGenerator": prefetch_dataloader.PrefetchGenerator,
            "VGG_PRETRAIN_PATH": vgg_arch.VGG_PRETRAIN_PATH,
            "vgg": getattr(vgg_arch, "vgg", None) or vgg_arch.models,  # the name in BasicSR's later version
            "calculate_niqe": METRIC_REGISTRY.get("calculate_niqe"),
            "imwrite": sr_model.imwrite,
        }

    before = names()
    with patched_basicsr():
        within = names()
    assert names() == before
    replaced = sorted(name for name, value in before.items() if within[name] is not value)
    others = ["PrefetchGenerator", "VGG_PRETRAIN_PATH", "calculate_niqe", "imwrite", "vgg"]
    assert replaced == [*(f"BaseModel.{name}" for name in METHODS), *others]
