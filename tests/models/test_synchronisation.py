"""A training step lets the host wait for the device only where a step is accepted or refused.

The steps run on the CPU. A dispatch mode counts the operations that would wait for an accelerator, and replaced methods
count the copies to the host.
"""

import copy
from collections import Counter

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.degradations.test_second_order import pictures
from tests.models.helpers import batch, build, kdsr, lightbsr, options
from tests.models.test_ranking import ranked

DISTILL = {"type": "KDSRDistillLoss"}
CONTRAST = {"type": "MomentumContrastLoss", "num_patch": 2, "queue_size": 6}
GAN = {"gan_opt": {"type": "GANLoss", "gan_type": "vanilla"}, "optim_d": {"type": "Adam", "lr": 1e-3}}
WAITING = {"_local_scalar_dense", "item", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}


class WaitCounter(TorchDispatchMode):
    """Counts the operations whose result the host, or the shape of a tensor, depends on.

    Operations inside an optimiser do not count, because an optimiser's counters of steps are on the host.
    """

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self.in_optimizer = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if self.in_optimizer:
            pass
        elif name in WAITING:
            self.counts[name] += 1
        elif name in ("index", "index_put", "index_put_"):
            masks = [one for one in tree_leaves(args[1]) if isinstance(one, torch.Tensor)]
            self.counts[name] += any(mask.dtype in (torch.bool, torch.uint8) for mask in masks)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def count(monkeypatch):
    """Return a function that runs the third step of a model and returns the counts of what waits."""

    def count(model, data):
        def step(iteration):
            model.update_learning_rate(iteration, warmup_iter=-1)
            model.feed_data(copy.copy(data))
            model.optimize_parameters(iteration)

        step(1)
        step(2)
        counter = WaitCounter()

        def switch(to):
            return lambda *_: setattr(counter, "in_optimizer", to)

        hooks = [register_optimizer_step_pre_hook(switch(True)), register_optimizer_step_post_hook(switch(False))]
        with monkeypatch.context() as patch, counter:
            for name in ("tolist", "numpy", "cpu"):
                original = getattr(torch.Tensor, name)

                def counted(self, *args, _original=original, _name=name, **kwargs):
                    counter.counts[_name] += 1
                    return _original(self, *args, **kwargs)

                patch.setattr(torch.Tensor, name, counted)
            step(3)
        for hook in hooks:
            hook.remove()
        return +counter.counts

    return count


def teacher_file(folder, network):
    build(options(folder, "KDTeacherModel", network("teacher"))).save(0, 1)
    return str(folder / "net_g_1.pth")


def student_options(folder, network, distill, **more):
    opt = options(folder, "KDStudentModel", network("student"), distill_opt=distill, ema_decay=0.9, **more)
    opt["network_teacher"] = network("teacher")
    opt["path"]["pretrain_network_teacher"] = teacher_file(folder, network)
    return opt


ONE = {"_local_scalar_dense": 1}


def test_a_plain_model_waits_once(tmp_path, count):
    network = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    assert count(build(options(tmp_path, "BlindSRModel", network)), batch()) == ONE


def test_a_limit_of_the_gradient_adds_no_wait(tmp_path, count):
    assert count(build(options(tmp_path, "KDTeacherModel", kdsr("teacher"), grad_clip=1.0)), batch()) == ONE


@pytest.mark.slow
def test_a_contrast_waits_once(tmp_path, count):
    opt = options(tmp_path, "KDTeacherModel", lightbsr("teacher"), contrast_opt=CONTRAST)
    assert count(build(opt), {"gt": batch(8)["gt"].view(4, 2, 3, 32, 32)}) == ONE


@pytest.mark.parametrize(("network", "distill"), [(kdsr, "KDSR"), (lightbsr, "LightBSR")])
def test_a_student_waits_once(network, distill, tmp_path, count):
    opt = student_options(tmp_path, network, {"type": f"{distill}DistillLoss"})
    assert count(build(opt), batch()) == ONE


def test_a_gan_waits_once_per_network(tmp_path, count):
    opt = student_options(tmp_path, kdsr, DISTILL, **GAN)
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8}
    assert count(build(opt), batch()) == {"_local_scalar_dense": 2}


def test_a_cyclic_contrast_waits_once(tmp_path, count):
    network = {
        "type": "BlindSR",
        "estimator": {"type": "CdCLEncoder", "num_feat": 8},
        "restorer": {"type": "DASRNet", "num_feat": 8, "num_group": 1, "num_block": 1, "idr_ch": 32, "scale": 2},
    }
    opt = options(tmp_path, "ContrastiveSRModel", network, cyclic_opt={"type": "FastMoCoLoss", "num_patch": 2})
    assert count(build(opt), batch()) == ONE


@pytest.mark.slow
def test_the_second_order_degradation_waits_in_basicsrs_code_only(tmp_path, count):
    """BasicSR's JPEG reads each quality, and its Poisson noise counts the values of each image."""
    opt = options(tmp_path, "KDTeacherModel", kdsr("teacher"))
    opt["degradation"] = {"type": "SecondOrderDegradation", "gt_size": 48, "queue_size": 4}
    counts = count(build(opt), {"gt": pictures(2, 96, 0)})
    assert {*counts} <= {"_local_scalar_dense", "_unique2"}


@pytest.mark.slow
def test_a_ranking_waits_in_the_degradation_only(tmp_path, count):
    counts = count(build(ranked(tmp_path)), {"gt": pictures(2, 80, 0)})
    assert {*counts} <= {"_local_scalar_dense", "_unique2"}


def test_the_log_holds_numbers(tmp_path):
    model = build(options(tmp_path, "KDTeacherModel", kdsr("teacher")))
    model.update_learning_rate(1, warmup_iter=-1)
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert isinstance(model.log_dict["l_pix"], torch.Tensor)
    log = model.get_current_log()
    assert {name: type(value) for name, value in log.items()} == {"l_pix": float}
    assert log["l_pix"] == model.log_dict["l_pix"].item()
