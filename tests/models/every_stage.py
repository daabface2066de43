"""Two processes train every stage. The first one also trains the same stage as one process with the whole batch.

torchrun --nproc_per_node=2 tests/models/every_stage.py FOLDER writes FOLDER/report.json.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

import lightbsr_arch  # noqa: F401
from tests.models.helpers import batch, build, kdsr, lightbsr, options, train

DISTILL = {"kdsr": {"type": "KDSRDistillLoss"}, "lightbsr": {"type": "LightBSRDistillLoss"}}
CONTRAST = {"type": "MomentumContrastLoss", "num_patch": 4, "queue_size": 10}
NETWORKS = {"kdsr": kdsr, "lightbsr": lightbsr}
STAGES = [
    ("kdsr", "teacher"), ("kdsr", "student"), ("kdsr", "gan"), ("lightbsr", "teacher"), ("lightbsr", "student"),
]  # fmt: skip
GAN = {
    "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "optim_d": {"type": "Adam", "lr": 1e-3},
    "net_d_iters": 2,
    "estimator_iter": 0,
}
STEPS = 20
ALONE = 8  # the first of these steps, which train only the estimator in stages that have such a phase


def stage_options(folder, system, role, is_shared):
    train_opt = {"ema_decay": 0.9}
    if role != "teacher":
        train_opt |= {"distill_opt": DISTILL[system], "estimator_iter": ALONE}
    elif system == "lightbsr":
        train_opt |= {"contrast_opt": CONTRAST, "estimator_iter": ALONE}
    if role == "gan":
        train_opt |= GAN
    model_type = "KDTeacherModel" if role == "teacher" else "KDStudentModel"
    opt = options(folder, model_type, NETWORKS[system](role), **train_opt)
    if role == "gan":
        opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8}
    opt["degradation"] = {"type": "ClassicalDegradation", "kernel": "aniso", "noise": [0, 25]}
    if role != "teacher":
        opt["network_teacher"] = NETWORKS[system]("teacher")
        opt["path"]["pretrain_network_teacher"] = str(folder / f"{system}_{STEPS}.pth")
    if is_shared:
        opt |= {"dist": True, "rank": distributed.get_rank(), "world_size": distributed.get_world_size()}
    return opt


def items(step, role):
    """Return the whole batch of a step: four items, with four patches each for a teacher."""
    gt = batch(16, seed=step)["gt"]
    return gt.view(4, 4, 3, 32, 32) if role == "teacher" else gt[:4]


def run(folder, system, role, is_shared):
    model = build(stage_options(folder, system, role, is_shared))
    # Batch normalisation uses the samples of each process. Without it, the processes train as one.
    contrast = model.objectives.get("contrast_opt")
    for net in (model.net_g, contrast and contrast.net_key):
        for module in net.modules() if net is not None else ():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    rank, size = model.opt["rank"], model.opt["world_size"]
    logs, queues_agree = [], True
    for step in range(1, STEPS + 1):
        logs += train(model, step, step, {"gt": items(step, role)[rank::size].contiguous()})
        if is_shared and contrast is not None:
            state = torch.cat([value.flatten().float() for value in contrast.cri_contrast.state_dict().values()])
            states = [torch.empty_like(state) for _ in range(size)]
            distributed.all_gather(states, state)
            queues_agree &= torch.equal(*states)
            position = int(contrast.cri_contrast.position)
            queues_agree &= position == 4 * step % 10  # both processes add keys
    if is_shared and role == "teacher":
        model.save_network([model.net_g, model.net_g_ema], system, STEPS, ["params", "params_ema"])
    return logs, queues_agree


def main():
    distributed.init_process_group("gloo", timeout=timedelta(seconds=100))
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    report = {}
    for system, role in STAGES:
        shared, queues_agree = run(folder, system, role, is_shared=True)
        distributed.barrier()
        if rank == 0:
            alone, _ = run(folder, system, role, is_shared=False)
            report[f"{system} {role}"] = {"shared": shared, "alone": alone, "queues agree": queues_agree}
    if rank == 0:
        (folder / "report.json").write_text(json.dumps(report))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
