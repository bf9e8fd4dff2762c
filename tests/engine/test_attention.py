"""Which code computes attention."""

import logging
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0, SlicedAttnProcessor

from catalog.models import ModelEntry
from engine.device import attention
from engine.device.devices import Device
from engine.device.memory import Memory
from engine.models.manager import ModelManager

CPU = Device(torch.device("cpu"), "CPU")


def processors(device: Device, entry: ModelEntry) -> set[type]:
    with ModelManager(device).lease(entry.ref, str(entry.path)) as bundle:
        return {type(one) for one in bundle.onload("unet").attn_processors.values()}


def test_torchs_own_is_the_usual_one(entries: dict[str, ModelEntry]) -> None:
    assert (
        processors(CPU, entries["sd1"])
        == processors(replace(CPU, attention="sdpa"), entries["sd1"])
        == {AttnProcessor2_0}
    )


def test_slices_where_they_are_asked_for_and_after_the_lease_too(entries: dict[str, ModelEntry]) -> None:
    manager, entry = ModelManager(replace(CPU, attention="sliced")), entries["sd1"]
    for _ in range(2):
        with manager.lease(entry.ref, str(entry.path)) as bundle:
            assert {type(one) for one in bundle.onload("unet").attn_processors.values()} == {SlicedAttnProcessor}


def test_xformers_that_can_not_be_used_is_said_and_torchs_own_taken(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert processors(replace(CPU, attention="xformers"), entries["sd1"]) == {AttnProcessor2_0}
    assert "xformers can't be used here" in caplog.text


def test_an_apple_gpu_with_little_memory_gets_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    sliced: list[object] = []
    monkeypatch.setattr(attention, "slice_attention", lambda module: sliced.append(module))
    apple, module = Device(torch.device("mps"), "Apple GPU"), torch.nn.Module()
    for size in (16, 128):
        monkeypatch.setattr(attention, "memory", lambda size=size: Memory(size * 2**30, 2**30))
        attention.set_attention(module, apple)
    assert sliced == [module]
