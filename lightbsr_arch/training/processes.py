"""Training in several processes, which torchrun or SLURM starts."""

import os
import subprocess
from datetime import timedelta

import torch
from torch import distributed

from lightbsr.errors import UserError


def init_dist(launcher: str, backend: str = "nccl", port: int | None = None) -> None:
    """Join the other processes, which torchrun or SLURM describes in environment variables.

    Unlike BasicSR's function of the same name, it also works without a GPU. It selects the GPU by the rank on the
    machine and not by the rank among all processes.

    Args:
        launcher: pytorch (torchrun) or slurm.
        backend: PyTorch's backend on GPUs. Without a GPU, the backend is gloo.
        port: port of the first process under SLURM.

    Raises:
        UserError: the environment variables are missing.
    """
    variable, command = ("SLURM_PROCID", "srun") if launcher == "slurm" else ("RANK", "torchrun")
    if variable not in os.environ:
        raise UserError(f"--launcher {launcher} is for processes that {command} starts")
    if launcher == "slurm":
        _describe_slurm_job(port)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    else:
        backend = "gloo"
    # The others wait while the first process validates, which may take longer than the default limit of 10 minutes.
    distributed.init_process_group(backend, timeout=timedelta(hours=2))


def _describe_slurm_job(port: int | None) -> None:
    """Set torchrun's variables from SLURM's. An address or a port that is already set is kept."""
    environ = os.environ
    environ.update(RANK=environ["SLURM_PROCID"], WORLD_SIZE=environ["SLURM_NTASKS"])
    environ["LOCAL_RANK"] = environ["SLURM_LOCALID"]
    if port is not None:
        environ["MASTER_PORT"] = str(port)
    environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in environ:
        hosts = subprocess.check_output(["scontrol", "show", "hostnames", environ["SLURM_NODELIST"]], text=True)
        environ["MASTER_ADDR"] = hosts.split()[0]
