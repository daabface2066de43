"""Records outputs of the plain versions: ``python -m tests.reference.record``."""

from safetensors.torch import save_file

from tests.reference.systems import RECORDED, SYSTEMS

if __name__ == "__main__":
    recorded = {}
    for name, system in SYSTEMS.items():
        for output, value in system.outputs(system.scales[0]).items():
            recorded[f"{name}.{output}"] = value.contiguous()
    save_file(recorded, RECORDED)
