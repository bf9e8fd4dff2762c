"""Muon and AdamW as one optimizer."""

import copy

import torch
from torch import nn
from torch.nn import functional

from training.loops.optimizers import MatrixOptimizer, orthogonal


def test_all_directions_of_a_matrix_come_out_alike() -> None:
    matrix = torch.randn(32, 80, generator=torch.Generator().manual_seed(1)) @ torch.diag(torch.logspace(0, -1, 80))
    for shape in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonal(shape))
        assert values.min() > 0.5 and values.max() < 1.3


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Embedding(40, 24), nn.Linear(24, 32), nn.Conv1d(32, 2, 1)])


def loss_of(module: nn.Module) -> torch.Tensor:
    words, inner, end = module
    ids = torch.arange(40)
    made = end(functional.silu(inner(words(ids))).T[None])
    return (made[0, 0] - torch.sin(ids / 3)).square().mean() + made[0, 1].square().mean()


def steps(module: nn.Module, optimizer: MatrixOptimizer, count: int) -> float:
    for _ in range(count):
        loss = loss_of(module)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_it_learns_and_goes_on_from_its_state() -> None:
    module = small()
    optimizer = MatrixOptimizer(module, 1e-2)
    first, third = steps(module, optimizer, 1), steps(module, optimizer, 30)
    assert third < first / 4
    again = small()
    again.load_state_dict(module.state_dict())
    follower = MatrixOptimizer(again, 1e-2)
    follower.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert steps(again, follower, 3) == steps(module, optimizer, 3)


def test_a_part_without_matrices_trains_too() -> None:
    module = nn.Linear(3, 2)
    optimizer = MatrixOptimizer(module, 1e-2)
    before = module.weight.clone()
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not module.weight.equal(before)


def test_what_is_frozen_stays() -> None:
    module = small()
    module[1].requires_grad_(False)
    before = module[1].weight.clone()
    steps(module, MatrixOptimizer(module, 1e-2), 2)
    assert module[1].weight.equal(before)
