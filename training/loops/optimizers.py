"""What trains every part: Muon for matrices, AdamW for the rest, as one optimizer.

Muon makes a step of the same length in all directions of a matrix, so that rare things are learned about as fast as
frequent ones. Its steps are scaled to the size of AdamW's: one learning rate serves both.
"""

from typing import Any

import torch
from torch import Tensor, nn, optim

from training.loops.together import fast_dtype

_MOMENTUM, _DECAY = 0.95, 0.01
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_SMALLEST = 16  # rows and columns of a matrix that is worth it


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """A matrix (m, n) with its singular values brought near 1.

    Source: the Newton-Schulz iteration of Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
    """
    a, b, c = _POLYNOMIAL
    x = matrix.to(fast_dtype(matrix.device.type))
    x = x.T if len(x) > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if len(matrix) > matrix.shape[1] else x).to(matrix.dtype)


class Muon(optim.Optimizer):
    """Momentum made orthogonal; a convolution counts as a matrix with one row an output channel."""

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"])

    def _move(self, parameter: Tensor, rate: float) -> None:
        gradient = parameter.grad.reshape(len(parameter), -1)
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(gradient))
        momentum.lerp_(gradient, 1 - _MOMENTUM)
        change = orthogonal(gradient.lerp(momentum, _MOMENTUM))
        parameter.mul_(1 - rate * _DECAY)
        parameter.add_(change.view(parameter.shape), alpha=-0.2 * rate * max(change.shape) ** 0.5)


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= _SMALLEST


class MatrixOptimizer:
    """Muon for the matrices of a module within, AdamW for vectors, tables of words and small ends."""

    def __init__(self, module: nn.Module, lr: float) -> None:
        tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if id(parameter) not in tables and _is_matrix(parameter)]
        inside = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in trained if id(parameter) not in inside]
        adam = optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=_DECAY, fused=True) if others else None
        parts = {"muon": Muon(matrices, lr) if matrices else None, "adam": adam}
        self._parts: dict[str, optim.Optimizer] = {name: part for name, part in parts.items() if part is not None}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both, so that a rate can be set."""
        return [group for part in self._parts.values() for group in part.param_groups]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self._parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One step of both."""
        for part in self._parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of both, by name."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
