"""Which evaluations are wanted, kept and given up."""

import torch
from torch import Tensor, nn

from engine.device import evaluations as module_under_test
from engine.device.evaluations import Evaluations, Outputs


def double(module: nn.Module, x: Tensor) -> Outputs:
    return (module(x) * 2,)


def run(evaluations: Evaluations, width: int = 4, weights: str = "a", component: str = "unet") -> Tensor:
    inputs = (torch.ones(1, width),)
    found = evaluations.find(component, double, inputs, weights)
    if found is not None:
        return found(*inputs)[0]
    return evaluations.run(nn.Identity(), component, double, inputs, weights, False)[0]


def test_shapes_and_weights_have_evaluations_of_their_own() -> None:
    evaluations = Evaluations()
    assert torch.equal(run(evaluations), torch.full((1, 4), 2.0))
    (wanted,) = evaluations.wanted.values()
    evaluations.keep(wanted.key, lambda x: (x * 3,), 100)
    assert torch.equal(run(evaluations), torch.full((1, 4), 3.0)) and not evaluations.wanted
    for width, weights in ((5, "a"), (4, "b")):
        assert torch.equal(run(evaluations, width, weights), torch.full((1, width), 2.0))
    assert len(evaluations.wanted) == 2 and evaluations.size == 100


def test_what_was_tried_in_vain_is_not_wanted_again() -> None:
    evaluations = Evaluations()
    run(evaluations)
    (wanted,) = evaluations.wanted.values()
    evaluations.keep(wanted.key, None)
    run(evaluations)
    assert not evaluations.wanted


def test_weights_that_change_take_what_was_wanted_of_them_along() -> None:
    evaluations = Evaluations()
    run(evaluations)
    run(evaluations, component="vae")
    of_unet, of_vae = evaluations.wanted.values()
    evaluations.forget_wanted("unet")
    run(evaluations)  # of equal weights again: another one, since those between may have been read
    assert not of_unet.is_current and of_vae.is_current
    assert of_unet not in evaluations.wanted.values() and len(evaluations.wanted) == 2


def test_both_are_bounded_and_the_oldest_go_first() -> None:
    evaluations = Evaluations()
    for width in range(1, 30):
        run(evaluations, width)
    assert len(evaluations.wanted) == module_under_test._MOST_WANTED
    for wanted in [*evaluations.wanted.values()]:
        evaluations.keep(wanted.key, lambda x: (x,), 10)
    assert torch.equal(run(evaluations, 22), torch.ones(1, 22))  # now the most recently used
    for width in range(30, 41):
        run(evaluations, width)
        evaluations.keep(next(iter(evaluations.wanted)), lambda x: (x,), 10)
    assert len(evaluations.ready) == module_under_test._MOST_READY == evaluations.size / 10
    assert torch.equal(run(evaluations, 22), torch.ones(1, 22)) and not torch.equal(
        run(evaluations, 23), torch.ones(1, 23)
    )


def test_memory_is_given_back_but_for_what_reads_the_modules_weights() -> None:
    evaluations = Evaluations()
    run(evaluations)
    (key,) = evaluations.wanted
    evaluations.keep(key, lambda x: (x,), 10)
    evaluations.keep(key._replace(weights=""), lambda x: (x * 5,))
    evaluations.release()
    assert evaluations.size == 0 and torch.equal(run(evaluations), torch.full((1, 4), 5.0))
