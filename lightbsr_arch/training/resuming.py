"""The training state from which a run continues, and the networks that belong to it."""

from pathlib import Path
from typing import Any

from basicsr.utils import check_resume

from lightbsr.errors import UserError
from lightbsr_arch.training_state import check_state
from lightbsr_arch.weight_files import read_pth


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Read the training state from which to continue, and set the paths of the networks that belong to it.

    BasicSR's function of the same name needs a GPU, and can execute code in the file.

    Returns:
        The state, or None if the run starts from the beginning.

    Raises:
        UserError: the state is missing or damaged, or a network of its iteration is missing.
    """
    path = opt["path"]
    if opt["auto_resume"]:
        states = [file for file in Path(path["training_states"]).glob("*.state") if file.stem.isdecimal()]
        if states:
            path["resume_state"] = str(max(states, key=lambda file: int(file.stem)))
    if not path.get("resume_state"):
        return None
    if not Path(path["resume_state"]).is_file():
        raise UserError(f"{path['resume_state']}: no such file")
    try:
        state: dict[str, Any] = read_pth(path["resume_state"])
        check_state(state, path["resume_state"])
        _point_to_networks(opt, state["iter"])
    except UserError as error:
        if opt["auto_resume"]:
            raise UserError(f"{error}; delete this .state to continue from an earlier one, or from the start") from None
        raise
    return state


def refuse_weights_of_this_run(opt: dict[str, Any]) -> None:
    """Check that a new run takes no weights from the folder of an older run of its name, which it renames.

    Raises:
        UserError: it does. A resumed run could not find these weights.
    """
    root = Path(opt["path"]["experiments_root"]).resolve()
    for key, value in opt["path"].items():
        if key.startswith("pretrain_network") and isinstance(value, str) and root in Path(value).resolve().parents:
            raise UserError(
                f"path.{key}: {value} is in the folder of the older run {opt['name']}, which a new run renames; "
                "choose another name for the new run"
            )


def _point_to_networks(opt: dict[str, Any], iteration: int) -> None:
    """Set the paths of the networks by BasicSR's ``check_resume``.

    Networks that are never saved, such as teachers, keep their configured path and key.
    """
    path = opt["path"]
    models = Path(path["models"])
    names = [key.removeprefix("network_") for key in opt if key.startswith("network_")]
    ignored = path.get("ignore_resume_networks") or []
    saved = [name for name in names if any(models.glob(f"net_{name}_*.pth")) and f"network_{name}" not in ignored]
    for name in saved or ["g"]:
        if not (models / f"net_{name}_{iteration}.pth").is_file():
            missing = models / f"net_{name}_{iteration}.pth"
            raise UserError(f"{missing}: no such file, but {path['resume_state']} belongs to it")
    others = [name for name in names if name not in saved]
    keys = {f"param_key_{name}": path[f"param_key_{name}"] for name in others if f"param_key_{name}" in path}
    path["ignore_resume_networks"] = [f"network_{name}" for name in others]
    check_resume(opt, iteration)
    path.update(keys)
