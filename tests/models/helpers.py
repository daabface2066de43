"""Toy models, built from options as in ``basicsr train``."""

import logging
from copy import deepcopy
from typing import Any

import torch
from basicsr.utils.registry import MODEL_REGISTRY


def kdsr(role: str, scale: int = 2, num_feat: int = 8) -> dict[str, Any]:
    """Return the network section of a toy KDSR teacher or student."""
    estimator = {"type": "KDIDETeacher", "scale": scale} if role == "teacher" else {"type": "KDIDEStudent"}
    return {
        "type": "BlindSR",
        # With PyTorch's initialisation, gradients are small, so the scaler of fp16 skips no step.
        "estimator": {**estimator, "num_feat": num_feat, "num_block": 1, "init": "pytorch"},
        "restorer": {"type": "IDRDCRBNet", "num_feat": num_feat, "num_block": 2, "scale": scale},
    }


def lightbsr(role: str, scale: int = 2, num_feat: int = 8) -> dict[str, Any]:
    """Return the network section of a toy LightBSR teacher or student."""
    return {
        "type": "BlindSR",
        "estimator": {"type": "LightIDETeacher" if role == "teacher" else "LightIDEStudent", "num_feat": num_feat},
        "restorer": {
            "type": "LightBSRNet", "num_feat": 16, "num_group": 2, "num_block": 1, "idr_ch": 4 * num_feat,
            "scale": scale,
        },
    }  # fmt: skip


def options(tmp_path, model_type: str, network_g: dict[str, Any], **train: Any) -> dict[str, Any]:
    """Return complete options of a training run, as in BasicSR's pipeline."""
    return {
        "name": "toy",
        "model_type": model_type,
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "is_train": True,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "degradation": {"type": "ClassicalDegradation", "sigma": [0.5, 2.0]},
        "network_g": network_g,
        "path": {
            "models": str(tmp_path),
            "training_states": str(tmp_path),
            "visualization": str(tmp_path / "pictures"),
        },
        "train": {
            "total_iter": 100,
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [1000], "gamma": 0.5},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0},
            **train,
        },
        "val": {
            "val_freq": 10,
            "save_img": False,
            "metrics": {
                "psnr_y": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True},
                "ssim_y": {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True},
            },
        },
    }


def build(opt: dict[str, Any], seed: int = 0) -> Any:
    logging.getLogger("basicsr").setLevel(logging.WARNING)  # BasicSR prints every layer of every network
    torch.manual_seed(seed)
    return MODEL_REGISTRY.get(opt["model_type"])(deepcopy(opt))


def batch(n: int = 4, size: int = 32, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a batch of smooth random pictures, which can be learnt."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    return {"gt": torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)}


def train(model: Any, first: int, last: int, data: dict[str, torch.Tensor] | None = None) -> list[dict[str, float]]:
    """Run iterations ``first`` to ``last`` as in BasicSR's loop. Return the logged losses of each."""
    logs = []
    for current_iter in range(first, last + 1):
        model.update_learning_rate(current_iter, warmup_iter=-1)
        model.feed_data(dict(data or batch(seed=current_iter)))
        model.optimize_parameters(current_iter)
        logs.append(dict(model.get_current_log()))
    return logs
