"""What all small trainings share."""

import pytest
import torch
from torch import nn

from training.loops.loop import averaged


@pytest.mark.parametrize(("updates", "lag"), [(20, 4), (100, 13), (2000, 51)])
def test_the_average_lags_a_tenth_of_the_updates_behind_and_never_more_than_fifty(updates: int, lag: int) -> None:
    model = nn.Linear(1, 1, bias=False)
    average = averaged(model)
    for count in range(updates):
        with torch.no_grad():
            model.weight.fill_(float(count))
        average.update_parameters(model)
    behind = updates - 1 - float(average.module.weight.detach())
    assert 0.2 * lag < behind <= lag
