"""Which weights are in memory: leases, swaps, eviction by a budget of bytes.

One set of modules per model shape (`module_slot.py`), one block of bytes per checkpoint (`weights/weight_buffer.py`):
to swap is to put another block on the shelf; nothing is rebuilt, so nothing leaks.
A load is a transaction: header checked, read, checked, kept; a failure leaves everything as it was. How a model is
read is in `loading.py`, how its parts lie on a card in `offload.py`.
"""

import logging
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from contract.errors import OutOfMemory
from contract.recipe import ModelRef
from contract.records import ResidentModel
from contract.work import path_key
from engine import errors
from engine.device.attention import unslice_attention
from engine.device.devices import Device, device_bytes, give_back_pinned, release
from engine.device.memory import memory
from engine.families import family_of
from engine.families.family import Family
from engine.models.loading import Fetch, HostModel, LoadPlan, plan_load
from engine.models.module_slot import ModuleSlot, build
from engine.models.offload import Offload, OffloadChoice, PlacedParts, choose, follows
from engine.weights.weight_buffer import Layout, WeightBuffer

_BUDGET_SHARE = 0.5  # of the machine's memory, unless the options say
_PINNED_SHARE = 0.25  # of the machine's memory may be page-locked
_FETCH_MARGIN = 1.1  # reading ahead leaves a tenth of a model free

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a lease gives: a checkpoint (or a control or adapter), ready to run. Valid only inside the lease.

    Attributes:
        parts: unet, vae, text_encoder; text_encoder_2 for SDXL; depth_estimator where the checkpoint brings one.
            Of what is no checkpoint, the one part of `checkpoints/components.py`, and neither tokenizers nor a
            scheduler. Ask for a part when it is to work: where memory is short it comes to the device only then.
        digests: Per part, a text that changes with its weights.
        zeroes_empty_prompt: The model's own word on it, in a family that does so.
    """

    ref: ModelRef
    family: Family
    device: Device
    parts: Mapping[str, nn.Module]
    tokenizers: tuple[CLIPTokenizer, ...]
    scheduler_config: Mapping[str, Any]
    digests: Mapping[str, str]
    _slot: ModuleSlot = field(repr=False)
    zeroes_empty_prompt: bool = True

    @property
    def notes(self) -> dict[str, object]:
        """What was changed on these modules, for whoever changes them; emptied when other weights are put there."""
        return self._slot.notes

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The parts to look at, wherever they lie: their numbers may be away."""
        return self._slot.parts

    def present(self, part: str, name: str) -> Tensor | None:
        """A tensor as it now is where the modules run; None while its part is away."""
        return self._slot.present(part, name)

    def original(self, part: str, name: str) -> Tensor:
        """The model's own tensor, in host memory: never to be written."""
        return self._slot.original(part, name)

    def replace(self, part: str, values: Mapping[str, Tensor]) -> None:
        """Let tensors of a part have other values, of any device and precision, until they are restored."""
        self._slot.replace(part, values)

    def restore(self, part: str, names: Iterable[str]) -> None:
        """Give tensors the model's own values again, to the bit."""
        self._slot.restore(part, names)


class ModelManager:
    """Loads checkpoints and lends them out. For one thread.

    Args:
        budget_bytes: Host memory for weights; None takes half of the machine's. A single larger
            checkpoint is still loaded.
        offload: How parts lie on a card; "auto" chooses by its memory.
    """

    def __init__(self, device: Device, budget_bytes: int | None = None, offload: OffloadChoice = "auto") -> None:
        self._device = device
        self._budget = budget_bytes or int(memory().total * _BUDGET_SHARE)
        self._offload = offload
        self._held: dict[str, HostModel] = {}  # least recently used first
        self._slots: list[ModuleSlot] = []  # least recently used first
        self._fetch: Fetch | None = None
        self._least_mode: dict[str, Offload] = {}  # what memory asked for, by model

    # What is there

    @property
    def budget_bytes(self) -> int:
        """Of host memory for weights."""
        return self._budget

    def resident(self) -> tuple[ResidentModel, ...]:
        """The models in memory, checkpoints before all others, newest first."""
        self._adopt()
        newest = list(reversed(self._held.values()))
        newest.sort(key=lambda held: held.ref.kind != "checkpoint")
        models = tuple(self._describe(held) for held in newest)
        if self._fetch is None:
            return models
        ref, size = self._fetch.ref, self._fetch.block.layout.size
        return *models, ResidentModel(name=ref.name, kind=ref.kind, bytes=size, place="coming")

    def _describe(self, held: HostModel) -> ResidentModel:
        slot = next((slot for slot in self._slots if slot.holds is held), None)
        is_there = slot is not None and (not self._device.copies_weights or slot.device_size > 0)
        extra = slot.overrides_size if slot else 0
        return ResidentModel(
            name=held.ref.name,
            kind=held.ref.kind,
            bytes=held.block.layout.size + extra,
            place="device" if is_there else "memory",
            is_pinned=held.is_pinned,
            in_use=held.leases > 0,
            load_s=held.load_s,
        )

    def pin(self, key: str, is_pinned: bool) -> None:
        """Keep a model (by `path_key`) whatever else is loaded, or no longer."""
        for held in self._named(key):
            held.is_pinned = is_pinned

    def evict(self, key: str) -> None:
        """Let go of a model (by `path_key`), unless it is leased."""
        if self._fetch is not None and path_key(self._fetch.ref) == key:
            self._give_up_fetch()
        for name in [name for name, held in self._held.items() if path_key(held.ref) == key and not held.leases]:
            self._evict(name)

    def _named(self, key: str) -> list[HostModel]:
        self._adopt()
        return [held for held in self._held.values() if path_key(held.ref) == key]

    # Reading

    def prepare(self, ref: ModelRef, path: str) -> Iterator[float]:
        """Read a checkpoint into memory unless it is there; yields the fraction that is done.

        Closing the iterator gives up the load and what it had read.

        Raises:
            ModelProblem: it can't be used; names the file and the tensor.
            OutOfMemory: there is no room for it.
        """
        key = _key(ref, path)
        if self._fetch is not None and self._fetch.key == key:
            yield from self._fetch.wait()
        self._adopt()
        if key in self._held:
            self._held[key] = self._held.pop(key)
            return
        yield 0.0
        wanted = self._plan(ref, path)
        self._give_up_fetch()
        spare = self._make_room(ref, wanted.layout)
        self._keep(key, (yield from wanted.read(spare or self._block_for(wanted))))

    def prefetch(self, ref: ModelRef, path: str) -> None:
        """Begin to read a model beside the work, if there is room; what is wrong with it its job will say."""
        key = _key(ref, path)
        self._adopt()
        if key in self._held or (self._fetch is not None and self._fetch.key == key):
            return
        self._give_up_fetch()
        try:
            wanted = self._plan(ref, path)
            spare = self._make_room(ref, wanted.layout, _FETCH_MARGIN)
            self._fetch = Fetch(key, wanted, spare or self._block_for(wanted))
        except Exception as error:
            log.info(
                "%s is not read ahead: %s", ref.name, errors.as_studio_error(error, ref.name, "its weights").message
            )

    def is_fetching(self) -> bool:
        """Whether a model is read ahead."""
        self._adopt()
        return self._fetch is not None

    def _adopt(self) -> None:
        """Take over a model that was read ahead and is complete."""
        fetch = self._fetch
        if fetch is None or not fetch.is_done:
            return
        self._fetch = None
        if fetch.held is not None:
            self._keep(fetch.key, fetch.held)
        elif fetch.problem is not None:
            log.info("%s was not read ahead: %s", fetch.ref.name, fetch.problem)

    def _give_up_fetch(self) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.stop()

    def _plan(self, ref: ModelRef, path: str) -> LoadPlan:
        """Modules for the model's shape, and its files checked against them."""
        wanted = plan_load(ref, path)
        slot = next((slot for slot in self._slots if slot.shape == wanted.shape), None)
        slot = slot or build(wanted.shape, wanted.plan, self._device)
        wanted.match(slot)
        if slot not in self._slots:
            self._slots.append(slot)
        return wanted

    def _block_for(self, wanted: LoadPlan) -> WeightBuffer:
        """Room for a model; page-locked while that takes no more than its share of the machine's memory."""
        locked = sum(held.block.layout.size for held in self._held.values() if held.block.is_pinned)
        pins = self._device.pins_memory and locked + wanted.layout.size <= memory().total * _PINNED_SHARE
        try:
            return WeightBuffer.empty(wanted.layout, pinned=pins)
        except RuntimeError as error:
            if not pins:
                raise
            log.info("%s is kept in ordinary memory: %s", wanted.ref.name, str(error)[:120])
            return WeightBuffer.empty(wanted.layout)

    def _keep(self, key: str, held: HostModel) -> None:
        self._held[key] = held
        self._evict_earlier(held)
        self._shrink(keep=key)
        log.info("loaded %s, %.0f MB in %.1f s", held.ref.name, held.block.layout.size / 1e6, held.load_s)

    def _evict_earlier(self, held: HostModel) -> None:
        """Let go of what lay at the same place before: nothing can ask for it any more."""
        for key, other in list(self._held.items()):
            is_earlier = (
                other.path == held.path
                and other.ref.kind == held.ref.kind
                and other.ref.fingerprint != held.ref.fingerprint
            )
            if is_earlier and not other.leases:
                held.is_pinned = held.is_pinned or other.is_pinned
                self._evict(key)

    # Lending

    @contextmanager
    def lease(self, ref: ModelRef, path: str, *, beside: int = 0) -> Iterator[Bundle]:
        """Borrow a checkpoint, loading it first if need be; it can't be evicted meanwhile.

        Args:
            beside: Bytes of the device that other models of the same job will take.
        """
        for _ in self.prepare(ref, path):
            pass
        held = self._held[_key(ref, path)]
        slot = self._slot_for(held)
        parts = self._put(held, slot, beside)
        held.leases += 1
        slot.leases += 1
        try:
            yield Bundle(
                ref,
                family_of(ref.family),
                self._device,
                parts,
                held.tokenizers,
                held.scheduler_config,
                held.digests,
                slot,
                held.zeroes_empty_prompt,
            )
        finally:
            held.leases -= 1
            slot.leases -= 1
            for module in slot.parts.values():
                unslice_attention(module, self._device)

    def size_of(self, ref: ModelRef, path: str) -> int:
        """Bytes of a model that is in memory; 0 of one that is not."""
        held = self._held.get(_key(ref, path))
        return held.block.layout.size if held else 0

    def use_less_device(self, bundle: Bundle) -> str:
        """After a device ran out of memory within a lease: let parts travel more, or idle models go.

        Returns:
            What was done, in words; empty if there is nothing left to do.
        """
        idle = [slot for slot in self._slots if slot.device_size and not slot.leases]
        for slot in idle:
            slot.clear()
        if idle:
            return "models that wait were taken off the card"
        # A VAE of the recipe lies above the model's own parts.
        parts = bundle.parts.maps[-1] if isinstance(bundle.parts, ChainMap) else bundle.parts
        following = follows(parts.mode) if isinstance(parts, PlacedParts) else None
        if following is None or self._offload not in ("auto", following):
            return ""
        assert isinstance(parts, PlacedParts)
        self._least_mode[path_key(bundle.ref)] = following
        parts.travel_by(following)
        return {
            "encoders": "the text encoder leaves the card while the picture is painted",
            "model": "only the part of the model that works is on the card",
            "group": "the model passes through the card layer by layer",
        }[following]

    def evict_all(self) -> None:
        """Let go of everything that is not leased, after the memory ran out; pinned models too."""
        self._give_up_fetch()
        for key in [key for key, held in self._held.items() if not held.leases]:
            self._evict(key)

    def _slot_for(self, held: HostModel) -> ModuleSlot:
        """A free set of modules of its shape; one is built when all are leased with others."""
        same = [slot for slot in self._slots if slot.shape == held.shape]
        for slot in same:
            if slot.holds is held:
                return slot
        for slot in same:
            if not slot.leases:
                return slot
        slot = build(held.shape, held.plan, self._device)
        self._slots.append(slot)
        return slot

    def _put(self, held: HostModel, slot: ModuleSlot, beside: int) -> Mapping[str, nn.Module]:
        """Swap: after this the modules compute with the checkpoint's weights."""
        self._slots.remove(slot)
        self._slots.append(slot)
        if slot.holds is not held:
            slot.put(held, held.block)
        if not self._device.copies_weights:
            return slot.parts
        parts = PlacedParts(slot, self._mode(held, slot, beside))
        self._free_device(slot)
        if parts.mode == "none":
            self._place_all(held, slot, parts)
        return parts

    def _place_all(self, held: HostModel, slot: ModuleSlot, parts: PlacedParts) -> None:
        """Bring every part to the device. What other programs hold of it shows only now: then parts travel instead."""
        try:
            for part in slot.parts:
                slot.place(part)
        except torch.OutOfMemoryError:
            if self._offload != "auto" or held.ref.kind != "checkpoint":
                raise
            log.warning("%s does not fit beside what holds the card: its parts travel", held.ref.name)
            parts.travel_by("encoders")
            self._least_mode[path_key(held.ref)] = "encoders"
            release()

    def _mode(self, held: HostModel, slot: ModuleSlot, beside: int) -> Offload:
        if held.ref.kind != "checkpoint":
            return "none"
        if self._offload != "auto":
            return self._offload
        limit = device_bytes(self._device)
        leased = sum(other.device_size for other in self._slots if other.leases and other is not slot)
        room = None if limit is None else limit - beside - leased
        return choose(slot, room, self._least_mode.get(path_key(held.ref), "none"))

    def _free_device(self, wanted: ModuleSlot) -> None:
        """Give up the storage of other idle shelves, least recently used first, until this one fits: maybe all."""
        limit, need = device_bytes(self._device), wanted.layout.size - wanted.device_size
        for slot in list(self._slots):
            used = sum(other.device_size for other in self._slots)
            if limit is None or used + need <= limit:
                return
            if slot is not wanted and slot.device_size and not slot.leases:
                slot.clear()

    # Making room

    def _make_room(self, ref: ModelRef, layout: Layout, margin: float = 1.0) -> WeightBuffer | None:
        """Before a load: evict what the budget and the machine's free memory ask for, and refuse what can't fit.

        The model that was used last stays if it can, so that it serves on should the load fail.

        Returns:
            The block of an evicted model of the same layout: memory that need not be had, and cleared, anew.
        """
        spare: WeightBuffer | None = None
        need, newest = int(layout.size * margin), next(reversed(self._held), None)
        idle = [key for key, held in self._held.items() if not held.leases and not held.is_pinned]
        while idle and not self._fits(need, spares_budget=idle[0] == newest):
            block = self._evict(idle.pop(0))
            if block.layout is layout:
                spare = block
                break
            is_pinned = block.is_pinned
            del block
            if is_pinned:
                give_back_pinned()
        free = memory().free
        if spare is None and need > free:
            kept = any(held.is_pinned for held in self._held.values())
            raise OutOfMemory(
                f"{ref.name} needs {layout.size / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free.",
                "Unpin a model, or close other programs." if kept else "Close other programs, or use a smaller model.",
            )
        return spare

    def _fits(self, need: int, *, spares_budget: bool) -> bool:
        """Whether so many bytes more are within the machine's free memory, and within the budget where that counts."""
        held = sum(held.block.layout.size for held in self._held.values())
        return (spares_budget or held + need <= self._budget) and need <= memory().free

    def _shrink(self, keep: str) -> None:
        """After a load: back under the budget, least recently used first."""
        for key in list(self._held):
            total = sum(held.block.layout.size for held in self._held.values())
            if total <= self._budget:
                return
            if key != keep and not self._held[key].leases and not self._held[key].is_pinned:
                self._evict(key)

    def _evict(self, key: str) -> WeightBuffer:
        """Forget a model. Its memory is free when the block that is returned is."""
        held = self._held.pop(key)
        self._least_mode.pop(path_key(held.ref), None)
        log.info("evicted %s", held.ref.name)
        for slot in [slot for slot in self._slots if slot.holds is held]:
            slot.clear()
        if held.ref.kind != "checkpoint":  # every LoRA has a shape of its own
            others = {other.shape for other in self._held.values()}
            self._slots = [slot for slot in self._slots if slot.shape in others or slot.shape != held.shape]
        return held.block


def _key(ref: ModelRef, path: str) -> str:
    # The same VAE is another model for another family, which scales its latents otherwise.
    return f"{ref.kind}/{ref.family}/{ref.fingerprint or path}"
