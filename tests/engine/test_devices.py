"""Which device and precision are chosen, by what the machine can do."""

from types import SimpleNamespace

import pytest
import torch

from contract.errors import JobError
from engine.device.devices import choose_device


def capable(monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (major, 0))
    properties = SimpleNamespace(total_memory=10 * major * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)


def test_cpu_computes_in_full_precision() -> None:
    device = choose_device("cpu", threads=1)
    assert (device.label, device.dtype_label, device.copies_weights) == ("CPU, 1 thread", "float32", False)


@pytest.mark.parametrize(("major", "label"), [(7, "float16, VAE float32"), (9, "float16, VAE bfloat16")])
def test_cards_get_the_precision_they_can(major: int, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    capable(monkeypatch, major)
    device = choose_device("auto")
    assert (device.label, device.dtype_label) == ("A card", label)
    assert device.copies_weights
    assert device.pins_memory
    assert device.records_graphs
    assert device.keeps_copies


def test_apple_gpu_is_taken_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").torch_device.type == "mps"


@pytest.mark.parametrize("choice", ["cuda", "mps"])
def test_missing_device_is_said(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(JobError) as caught:
        choose_device(choice)  # type: ignore[arg-type]
    assert caught.value.code == "no_device"
    assert caught.value.hint
