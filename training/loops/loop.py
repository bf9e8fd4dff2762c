"""What all small trainings share: steps, seconds, rate, average, meeting of processes, checkpoints. Knows no data."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.loops.checkpoints import Budget, Stopwatch, load_checkpoint, save_checkpoint, set_rate
from training.loops.optimizers import MatrixOptimizer
from training.loops.together import meet

LOG = logging.getLogger(__name__)
MEET_EVERY = 8  # steps
SAVE_EVERY = 200


@torch.no_grad()
def _move_average(averages: list[Tensor], presents: list[Tensor], count: Tensor | int) -> None:
    """Over a tenth of the updates so far, at most over 50: a short training's average must not lag behind it."""
    torch._foreach_lerp_(averages, presents, max(0.02, 9 / (10 + int(count))))


def averaged(model: nn.Module) -> AveragedModel:
    """A running average of a model."""
    return AveragedModel(model, multi_avg_fn=_move_average)


class Loop:
    """One training from a checkpoint to the end of its budget.

    Args:
        path: The checkpoint; its stem names the training in the log.
        trained: All that the optimizer changes.
        kept: The part of it whose average is wanted; all of it where none is given.
    """

    def __init__(
        self,
        path: Path,
        trained: nn.Module,
        budget: Budget,
        peak: float,
        *,
        kept: nn.Module | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.path, self.trained, self.kept, self.budget, self.peak = path, trained, kept or trained, budget, peak
        self.rank, self.world = rank, world
        self.average = averaged(self.kept)
        self.optimizer = MatrixOptimizer(trained, peak)
        self.step, self.spent_s = load_checkpoint(path, modules=trained, average=self.average, optimizer=self.optimizer)
        self._watch, self._losses = Stopwatch(), []

    def is_over(self) -> bool:
        """True when the budget is spent."""
        return self.budget.progress(self.step, self.spent_s) >= 1

    def apply(self, loss: Tensor) -> None:
        """One optimizer step, and what is due after it."""
        set_rate(self.optimizer, self.budget.rate(self.peak, self.step, self.spent_s))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._losses.append(loss.item())
        if self.step % MEET_EVERY == 0 or self.is_over():
            self.spent_s = meet(self.trained.parameters(), self.spent_s + self._watch.lap(), self.world)
            self.average.update_parameters(self.kept)
        if self.rank == 0 and (self.step % SAVE_EVERY == 0 or self.is_over()):
            LOG.info(
                "%s step %d, %.0f s, loss %.4f",
                self.path.stem,
                self.step,
                self.spent_s,
                sum(self._losses) / len(self._losses),
            )
            self._losses.clear()
            save_checkpoint(
                self.path, self.step, self.spent_s, modules=self.trained, average=self.average, optimizer=self.optimizer
            )


def load_averaged(path: Path, model: nn.Module) -> nn.Module:
    """A model of this shape with the averaged weights of a checkpoint, ready to use; untrained where there is none."""
    average = averaged(model)
    load_checkpoint(path, average=average)
    return average.module.eval()
