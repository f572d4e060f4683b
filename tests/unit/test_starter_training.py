"""The starter model's training: schedule, curriculum, batches, attention and initialisation."""

from random import Random

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.starter import batches, narrow, network, tokenizer
from models.starter.report import cited, uncited, wilson
from models.starter.train import Plan
from tests.unit.test_starter_weights import WEIGHTS


def test_the_rates_end_at_zero_with_the_budget() -> None:
    plan = Plan(minutes=95)
    assert plan.rate(0) < plan.rate(plan.warmup) == plan.rate(plan.decay_from) == 1
    assert plan.rate(1) == 0
    assert plan.rate(0.5) > plan.rate(0.9) > 0


@pytest.mark.parametrize("length", [7, 128, 300])
def test_blocked_attention_is_causal_attention(length: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, length, 64, requires_grad=True) for _ in range(3))
    grad = torch.randn(2, 4, length, 64)
    ours = network.attend(query, key, value)
    theirs = scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, (query, key, value), grad),
        torch.autograd.grad(theirs, (query, key, value), grad),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-4)


def test_an_untrained_model_copies() -> None:
    rng = Random(0)  # noqa: S311 - generated tasks, no secret
    ids, marks = batches.pad([batches.repeated(rng, 2048) for _ in range(8)])
    with torch.no_grad():
        best = network.create(2048, 7)(input_ids=torch.from_numpy(ids)).logits[:, :-1].argmax(-1)
    right = (best == torch.from_numpy(ids)[:, 1:])[torch.from_numpy(marks)[:, 1:]]
    assert float(right.float().mean()) > 0.7


def test_batches_are_reproducible_and_within_their_size() -> None:
    coder = tokenizer.load(WEIGHTS).backend_tokenizer
    first, second = (batches.stream(coder, 3, None, 4096) for _ in range(2))
    for _ in range(5):
        ids, marks = next(first)
        again, _ = next(second)
        assert (ids == again).all()
        assert ids.shape == marks.shape
        assert ids.shape[1] % 8 == 0
        assert marks.any()


def test_a_quoting_row_counts_only_passage_numbers() -> None:
    coder = tokenizer.load(WEIGHTS)
    rng = Random(5)  # noqa: S311 - generated tasks, no secret
    ids, marks = batches.quoting(rng, coder.backend_tokenizer)
    counted = [coder.decode([token]) for token, mark in zip(ids, marks, strict=True) if mark]
    assert counted
    assert set(counted) <= set("12345")


def test_citations_are_told_from_answers() -> None:
    assert cited("14 days [2]; the duty chemist [1]") == [2, 1]
    assert uncited("14 days [2]; the duty chemist [1]") == "14 days; the duty chemist"


def test_wilsons_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_narrowing_to_the_same_size_changes_nothing_and_to_half_keeps_most() -> None:
    size = network.Size(64, 16, 48, 2)
    source = network.create(512, 7, size).eval()
    with torch.no_grad():
        for matrix in source.model.layers.parameters():  # no part may be zero, or the test would not see it
            if matrix.ndim == 2:
                matrix.add_(0.05 * torch.randn_like(matrix))
    rng = Random(0)  # noqa: S311 - generated tasks, no secret
    ids = torch.from_numpy(batches.pad([batches.repeated(rng, 512) for _ in range(4)])[0])
    wanted = source(input_ids=ids).logits
    same = narrow.narrow(source, size, [ids])(input_ids=ids).logits
    assert torch.allclose(same, wanted, atol=1e-3 * float(wanted.abs().max()))
    half = narrow.narrow(source, network.Size(32, 8, 24, 2), [ids])(input_ids=ids).logits
    assert torch.nn.functional.cosine_similarity(half.flatten(), wanted.flatten(), dim=0) > 0.5
