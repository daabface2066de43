"""The contrast between degradations compared with its recorded value, and its queue."""

import pytest
import torch
from basicsr.losses import build_loss
from torch.nn.functional import cross_entropy, normalize

from lightbsr_arch.losses import MomentumContrastLoss
from tests.golden import golden, needs_golden


@needs_golden
def test_loss_and_queue_are_the_recorded_ones():
    moco = golden("losses_and_degradations", "moco")
    loss = MomentumContrastLoss(queue_size=64)
    loss.queue.copy_(moco["queue_before"])
    embeddings = moco["embeddings"].flatten(0, 1)  # 8 degradations of 4 patches
    torch.testing.assert_close(loss(embeddings, embeddings), moco["loss"].view(()), atol=1e-4, rtol=0)
    loss.enqueue(loss.new_keys(embeddings))
    torch.testing.assert_close(loss.queue, moco["queue_after"], atol=1e-6, rtol=0)


def test_every_ordered_pair_counts_once():
    loss = build_loss({"type": "MomentumContrastLoss", "num_patch": 3, "queue_size": 7, "num_dim": 5, "loss_weight": 2})
    torch.manual_seed(0)
    queries, keys = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    q, k = (normalize(embeddings.view(2, 3, 5), dim=2) for embeddings in (queries, keys))
    by_hand = []
    for group in range(2):
        for i, j in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]:
            logits = torch.cat([q[group, i] @ k[group, j, :, None], q[group, i] @ loss.queue]) / 0.07
            by_hand.append(cross_entropy(logits[None], torch.zeros(1, dtype=torch.long)))
    ours = loss(queries, keys)
    torch.testing.assert_close(ours, 2 * sum(by_hand) / 12)
    ours.backward()
    assert queries.grad.abs().sum() > 0
    assert keys.grad is None


@pytest.mark.parametrize("size", [5, 8, 64])
def test_a_queue_of_any_size_keeps_the_newest_keys(size):
    loss = MomentumContrastLoss(num_patch=1, queue_size=size, num_dim=4)
    keys = loss.new_keys(torch.randn(21, 4))
    start = loss.queue.clone()
    for step in range(3):
        loss.enqueue(keys[7 * step : 7 * step + 7])
    ours = {tuple(key) for key in loss.queue.T.tolist()}
    kept = min(size, 21)
    assert ours == {tuple(key) for key in keys[21 - kept :].tolist() + start.T[21:].tolist()[: size - kept]}


def test_the_key_of_the_first_patch_enters_the_queue():
    keys = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    loss = MomentumContrastLoss(num_patch=3, queue_size=4, num_dim=5)
    torch.testing.assert_close(loss.new_keys(keys), normalize(keys[::3], dim=1))


def test_finds_the_degradation_among_the_negatives():
    torch.manual_seed(0)
    loss = MomentumContrastLoss(num_patch=2, queue_size=256, num_dim=16)
    degradations = torch.randn(8, 16)
    together = degradations.repeat_interleave(2, dim=0)
    apart = torch.randn(16, 16)
    assert loss(together, together) < 0.1
    assert loss(apart, apart) > 2


def test_with_first_queries_the_second_patch_is_the_only_key():
    loss = build_loss(
        {"type": "MomentumContrastLoss", "num_patch": 2, "queries": "first", "queue_size": 7, "num_dim": 5}
    )
    torch.manual_seed(0)
    queries, keys = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    q, k = normalize(queries[::2], dim=1), normalize(keys[1::2], dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ loss.queue], dim=1) / 0.07
    ours = loss(queries, keys)
    torch.testing.assert_close(ours, cross_entropy(logits, torch.zeros(3, dtype=torch.long)))
    ours.backward()
    assert queries.grad[::2].abs().sum() > 0
    assert queries.grad[1::2].abs().sum() == 0
    torch.testing.assert_close(loss.new_keys(keys), k)
