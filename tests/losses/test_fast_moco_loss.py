"""CdCL's contrast compared with recorded figures of the published code, and with plain loops."""

from copy import deepcopy
from itertools import combinations

import pytest
import torch
from basicsr.losses import build_loss
from torch.nn import functional as F

from lightbsr_arch.archs import CdCLEncoder
from lightbsr_arch.losses import FastMoCoLoss
from lightbsr_arch.losses.fast_moco_loss import quarters
from tests.archs.published import published
from tests.golden import golden, needs_family


@needs_family
def test_loss_and_gradient_are_those_of_the_published_code():
    io = golden("family/cdcl_loss", "cdcl")
    encoder = published("cdcl_x4").estimator.train()
    average = deepcopy(encoder)
    loss = FastMoCoLoss()
    lq = io["lr"].flatten(0, 1)
    torch.testing.assert_close(encoder(lq[::4]), io["embedding"], atol=1e-4, rtol=0)
    predictions, targets = loss.predictions(encoder, lq), loss.targets(average, lq)
    torch.testing.assert_close(predictions.flatten(1, 2), io["p"], atol=1e-4, rtol=0)
    torch.testing.assert_close(targets, io["z"], atol=1e-4, rtol=0)
    value = loss(predictions, targets)
    assert value.item() == pytest.approx(1.1041, abs=5e-5)
    assert value.item() == pytest.approx(io["loss"].item(), abs=1e-5)
    value.backward()
    gradient = encoder.features[0].weight.grad
    torch.testing.assert_close(gradient, io["grad_first_conv"], atol=1e-6, rtol=0)  # the gradient is up to 0.01


def test_the_loss_is_the_mean_cross_entropy_of_all_pairs_of_views():
    torch.manual_seed(0)
    loss = build_loss({"type": "FastMoCoLoss", "loss_weight": 0.5, "num_patch": 3, "temperature": 0.2})
    predictions, targets = torch.randn(3, 6, 4, 8), torch.randn(3, 4, 8)
    losses = []
    for i in range(3):
        for j in range(3):
            for pair in range(6) if i != j else ():
                cosines = F.cosine_similarity(predictions[i, pair, :, None], targets[j, None], dim=2)
                losses.append(F.cross_entropy(cosines / 0.2, torch.arange(4)))
    assert len(losses) == 36
    torch.testing.assert_close(loss(predictions, targets), 0.5 * torch.stack(losses).mean())


def test_predictions_come_from_pairs_of_quarters_and_targets_from_whole_images():
    torch.manual_seed(0)
    encoder = CdCLEncoder(num_feat=2).eval()  # in eval mode, the images of a batch are independent
    loss = FastMoCoLoss(num_patch=2)
    lq = torch.rand(6, 3, 16, 24)
    predictions, targets = loss.predictions(encoder, lq), loss.targets(encoder, lq)
    assert predictions.shape == (2, 6, 3, 8)
    assert not targets.requires_grad
    for view in range(2):
        for image in range(3):
            one = lq[2 * image + view]
            parts = [one[None, :, y : y + 8, x : x + 12] for y in (0, 8) for x in (0, 12)]
            vectors = [encoder(part).mean(dim=(2, 3)) for part in parts]
            wanted = [encoder.predictor(encoder.projector((a + b) / 2)) for a, b in combinations(vectors, 2)]
            found = predictions[view, :, image]
            # The same six pairs in any order.
            assert torch.cdist(found, torch.cat(wanted)).min(dim=1).values.max() < 1e-4
            assert torch.cdist(found, torch.cat(wanted)).min(dim=0).values.max() < 1e-4
            whole = encoder.projector(encoder(one[None]).mean(dim=(2, 3)))
            torch.testing.assert_close(targets[view, image], whole[0])


def test_quarters_cover_an_image():
    image = torch.arange(30.0).view(1, 1, 5, 6)
    parts = quarters(image)
    assert [part[0, 0, 0, 0].item() for part in parts] == [0, 12, 3, 15]
    assert {part.shape for part in parts} == {(1, 1, 2, 3)}


def test_each_view_has_batch_statistics_of_its_own():
    torch.manual_seed(0)
    encoder = CdCLEncoder(num_feat=2).train()
    loss = FastMoCoLoss(num_patch=2)
    lq = torch.rand(6, 3, 16, 16)
    other = lq.clone()
    other[1::2] += 1
    kept, changed = loss.predictions(encoder, lq), loss.predictions(encoder, other)
    assert torch.equal(kept[0], changed[0])
    assert torch.equal(loss.targets(encoder, lq)[0], loss.targets(encoder, other)[0])
    assert not torch.allclose(kept[1], changed[1])
