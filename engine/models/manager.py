"""Which weights are in memory: leases, swaps, eviction by a budget of bytes.

One set of modules per model shape (`module_slot.py`), one weight buffer per checkpoint (`weights/weight_buffer.py`):
a swap puts another buffer into the slot; nothing is rebuilt, so nothing leaks.
A load is a transaction: header checked, read, checked, kept; a failure leaves everything as it was. How a model is
read is in `loading.py`, which of its components are on a card in `offload.py`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from contract.errors import OutOfMemory, StudioError
from contract.recipe import ModelRef
from contract.records import ResidentModel
from contract.work import path_key
from engine import errors
from engine.checkpoints.predictions import set_prediction
from engine.checkpoints.tokenizers import ClipTokenizers
from engine.device.attention import unslice_attention
from engine.device.devices import Device, device_bytes, give_back_pinned, release
from engine.device.memory import memory
from engine.device.openvino_backend import OpenVino
from engine.families import family_of
from engine.models.bundle import Bundle
from engine.models.card_copies import drop_copies, keep_copy, make_room_on_card
from engine.models.idle_evaluations import make_wanted
from engine.models.layerwise_casting import StorageChoice, half_dtype
from engine.models.loading import Fetch, HostModel, LoadPlan, plan_load
from engine.models.module_slot import ModuleSlot, build
from engine.models.offload import LESS_MEMORY, Offload, OffloadChoice, Offloader, choose_mode, next_mode
from engine.models.second_card import use_second_card
from engine.weights.weight_buffer import Layout, WeightBuffer

_BUDGET_SHARE = 0.5  # of the machine's memory, unless the options say
_PINNED_SHARE = 0.25  # of the machine's memory may be page-locked
_COMPILE_MARGIN = 1.5  # times its weights that a compiled model takes while it is made
_OFFLOADED = ("checkpoint", "text_encoder")  # the others are small
_FETCH_MARGIN = 1.1  # reading ahead leaves a tenth of a model free

log = logging.getLogger(__name__)


class ModelManager:
    """Loads models and leases them. For one thread.

    Args:
        budget_bytes: Host memory for weights; None takes half of the machine's. A single larger
            checkpoint is still loaded.
        offload: The offload mode on a card; "auto" chooses by its memory.
        openvino: Makes evaluations; None leaves them to torch.
        storage: Whether a CPU keeps float32 models in half precision; "auto" does where memory is short.
        sharers: How many engines divide the budget among them.
    """

    def __init__(
        self,
        device: Device,
        budget_bytes: int | None = None,
        offload: OffloadChoice = "auto",
        openvino: OpenVino | None = None,
        storage: StorageChoice = "full",
        sharers: int = 1,
    ) -> None:
        self._device, self._openvino, self._storage = device, openvino, storage
        self._budget = (budget_bytes or int(memory().total * _BUDGET_SHARE)) // sharers
        self._offload = offload
        self._models: dict[str, HostModel] = {}  # least recently used first
        self._slots: list[ModuleSlot] = []  # least recently used first
        self._fetch: Fetch | None = None
        self._clip_tokenizers = ClipTokenizers()
        self._least_mode: dict[str, Offload] = {}  # that a shortage of memory required, by model

    # What is in memory

    @property
    def budget_bytes(self) -> int:
        """Of host memory for weights."""
        return self._budget

    def resident(self) -> tuple[ResidentModel, ...]:
        """The models in memory, checkpoints before all others, newest first."""
        self._adopt_fetched()
        newest = list(self._models.values())[::-1]
        newest.sort(key=lambda model: model.ref.kind != "checkpoint")
        found = []
        for model in newest:
            slot = next((slot for slot in self._slots if slot.holds is model), None)
            is_on_device = slot is not None and (not self._device.copies_weights or slot.device_size > 0)
            is_on_device = is_on_device or bool(model.copy)
            beside = slot.overrides_size + slot.evaluations.size if slot else 0
            held = ResidentModel(
                name=model.ref.name,
                kind=model.ref.kind,
                bytes=model.buffer.size + beside,
                place="device" if is_on_device else "memory",
                is_pinned=model.is_pinned,
                in_use=model.leases > 0,
                load_s=model.load_s,
            )
            found.append(held)
        if self._fetch is not None:
            ref, size = self._fetch.ref, self._fetch.buffer.layout.size
            found.append(ResidentModel(name=ref.name, kind=ref.kind, bytes=size, place="coming"))
        return tuple(found)

    def size_of(self, ref: ModelRef, path: str) -> int:
        """Bytes of a model that is in memory; 0 of one that is not."""
        model = self._models.get(_cache_key(ref, path))
        return model.buffer.layout.size if model else 0

    def pin(self, key: str, is_pinned: bool) -> None:
        """Keep a model (by `path_key`) whatever else is loaded, or no longer."""
        self._adopt_fetched()
        for model in self._models.values():
            if path_key(model.ref) == key:
                model.is_pinned = is_pinned

    def evict(self, key: str) -> None:
        """Evict a model (by `path_key`), unless it is leased."""
        if self._fetch is not None and path_key(self._fetch.ref) == key:
            self._give_up_fetch()
        for name, model in list(self._models.items()):
            if path_key(model.ref) == key and not model.leases:
                self._evict(name)

    def evict_all(self) -> None:
        """Evict everything that is not leased, after memory ran out; pinned models too."""
        self._give_up_fetch()
        for key, model in list(self._models.items()):
            if not model.leases:
                self._evict(key)

    # Reading

    def prepare(self, ref: ModelRef, path: str) -> Iterator[float]:
        """Read a model into memory unless it is there; yields the fraction done.

        Closing the iterator gives up the load and what it had read.

        Raises:
            ModelProblem: it can't be used; names the file and the tensor.
            OutOfMemory: there is not enough memory for it.
        """
        key = _cache_key(ref, path)
        if self._fetch is not None and self._fetch.key == key:
            yield from self._fetch.wait()
        self._adopt_fetched()
        if key in self._models:
            self._models[key] = self._models.pop(key)
            return
        yield 0.0
        plan = self._plan(ref, path)
        self._give_up_fetch()
        spare = self._make_room(ref, plan.layout.size, plan.layout)
        self._keep(key, (yield from plan.read(spare or self._new_buffer(plan))))

    def prefetch(self, ref: ModelRef, path: str) -> None:
        """Begin to read a model in the background, if there is memory for it; its job will report any problem."""
        key = _cache_key(ref, path)
        self._adopt_fetched()
        if key in self._models or (self._fetch is not None and self._fetch.key == key):
            return
        self._give_up_fetch()
        try:
            with errors.mapped_load(ref.name):
                plan = self._plan(ref, path)
                spare = self._make_room(ref, int(plan.layout.size * _FETCH_MARGIN), plan.layout)
                self._fetch = Fetch(key, plan, spare or self._new_buffer(plan))
        except StudioError as error:
            log.info("%s is not read ahead: %s", ref.name, error.message)

    def is_fetching(self) -> bool:
        """Whether a model is read ahead."""
        self._adopt_fetched()
        return self._fetch is not None

    def _adopt_fetched(self) -> None:
        """Keep a model that was read ahead and is complete."""
        fetch = self._fetch
        if fetch is None or not fetch.is_done:
            return
        self._fetch = None
        if fetch.model is not None:
            self._keep(fetch.key, fetch.model)
        elif fetch.problem is not None:
            log.info("%s was not read ahead: %s", fetch.ref.name, fetch.problem)

    def _give_up_fetch(self) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.stop()

    def _plan(self, ref: ModelRef, path: str) -> LoadPlan:
        """Modules for the model's shape, and its files checked against them."""
        plan = plan_load(ref, path)
        half = None if self._storage == "full" or self._device.copies_weights else half_dtype(ref.kind, plan.components)
        slot = self._slot_of(plan, self._device)
        if half is not None and (self._storage == "half" or not self._may_fit(slot.layout.size)):
            plan.shape += f" in {half}"
            slot = self._slot_of(plan, replace(self._device, storage_dtype=half))
        plan.match(slot, self._clip_tokenizers)
        if slot not in self._slots:
            self._slots.append(slot)
        return plan

    def _slot_of(self, plan: LoadPlan, device: Device) -> ModuleSlot:
        slot = next((slot for slot in self._slots if slot.shape == plan.shape), None)
        return slot or build(plan.shape, plan.components, device)

    def _may_fit(self, size: int) -> bool:
        """Whether a model fits once all models that may be evicted are."""
        held = sum(model.buffer.size for model in self._models.values() if model.leases or model.is_pinned)
        return size <= min(self._budget - held, memory().free + self._total_size() - held)

    def _new_buffer(self, plan: LoadPlan) -> WeightBuffer:
        """Memory for a model; page-locked while that takes no more than its share of the machine's memory."""
        pinned = sum(model.buffer.layout.size for model in self._models.values() if model.buffer.is_pinned)
        may_pin = self._device.pins_memory and pinned + plan.layout.size <= memory().total * _PINNED_SHARE
        try:
            return WeightBuffer.empty(plan.layout, pinned=may_pin)
        except RuntimeError as error:
            if not may_pin:
                raise
            log.info("%s is kept in ordinary memory: %s", plan.ref.name, str(error)[:120])
            return WeightBuffer.empty(plan.layout)

    def _keep(self, key: str, model: HostModel) -> None:
        self._models[key] = model
        # Nothing can ask any more for what was at the same path before.
        for other_key, other in list(self._models.items()):
            is_same_path = other.path == model.path and other.ref.kind == model.ref.kind
            if is_same_path and other.ref.fingerprint != model.ref.fingerprint and not other.leases:
                model.is_pinned = model.is_pinned or other.is_pinned
                self._evict(other_key)
        # Back under the budget, least recently used first.
        self._release_evaluations(0)
        for other_key, other in list(self._models.items()):
            if self._total_size() <= self._budget:
                break
            if other is not model and not other.leases and not other.is_pinned:
                self._evict(other_key)
        log.info("loaded %s, %.0f MB in %.1f s", model.ref.name, model.buffer.layout.size / 1e6, model.load_s)

    # Leases

    @contextmanager
    def lease(self, ref: ModelRef, path: str, *, beside: int = 0, rival: Bundle | None = None) -> Iterator[Bundle]:
        """Lease a model, loading it first if need be; it can't be evicted meanwhile.

        Args:
            beside: Bytes of the device that other models of the same job will take.
            rival: Another checkpoint that is leased; where a card can't hold both, they take turns on it.
        """
        for _ in self.prepare(ref, path):
            pass
        model = self._models[_cache_key(ref, path)]
        slot = self._slot_for(model)
        if rival is not None and self._must_take_turns(slot, rival, beside):
            rival.take_turns_with(slot)
        offloader = self._swap_in(model, slot, beside)
        model.leases += 1
        slot.leases += 1
        try:
            scheduler_config = set_prediction(model.scheduler_config, ref.prediction)
            facts = (model.tokenizers, scheduler_config, model.digests)
            modules = (offloader, slot, self._openvino)
            yield Bundle(ref, family_of(ref.family), slot.device, *facts, *modules, model.zeroes_empty_prompt)
        finally:
            model.leases -= 1
            slot.leases -= 1
            if slot.rival is not None:
                slot.rival.rival = None
                slot.rival = None
            if not slot.leases:  # another job may compute with them
                for module in slot.modules.values():
                    unslice_attention(module, self._device)
            if not model.leases and model.buffer.size < model.buffer.layout.size:  # parked, and nobody waits for it
                self._evict(_cache_key(ref, path))

    def _must_take_turns(self, slot: ModuleSlot, rival: Bundle, beside: int) -> bool:
        limit = device_bytes(self._device)
        if not self._device.copies_weights or self._offload == "none":
            return False
        return self._offload != "auto" or (limit is not None and slot.layout.size + rival.size + beside > limit)

    def has_room_beside_leased(self, ref: ModelRef, path: str) -> bool:
        """Whether the budget has room for a model beside those that are leased and pinned.

        Raises:
            ModelProblem: it can't be used.
        """
        self._adopt_fetched()
        return _cache_key(ref, path) in self._models or self._may_fit(self._plan(ref, path).layout.size)

    def park(self, bundle: Bundle) -> None:
        """Give back the host memory of a leased checkpoint's weights, but its VAE's; its LoRAs stay.

        What is parked at the end of its lease is evicted.
        """
        bundle.park()
        log.info("parked %s", bundle.ref.name)

    def unpark(self, bundle: Bundle) -> Iterator[float]:
        """Read what was parked again; yields the fraction done, and nothing where nothing was.

        Raises:
            ModelProblem, OutOfMemory: as of `prepare`.
        """
        slot, model = next((slot, slot.holds) for slot in self._slots if slot.holds and slot.modules is bundle.modules)
        missing = model.buffer.layout.size - model.buffer.size
        if not missing:
            return
        yield 0.0
        plan = plan_load(model.ref, str(model.path))
        plan.match(slot, self._clip_tokenizers)
        self._give_up_fetch()
        self._make_room(model.ref, missing)
        yield from plan.fill(model.buffer, model.buffer.refill())
        bundle.unpark()

    def use_less_device(self, bundle: Bundle) -> str:
        """After a device ran out of memory within a lease: offload idle models, or more of this one.

        Returns:
            What was done, in words; empty if there is nothing left to do.
        """
        if drop_copies(self._models.values()):
            return "models that wait were taken off the card"
        idle = [slot for slot in self._slots if slot.device_size and not slot.leases]
        for slot in idle:
            slot.clear()
        if idle:
            return "models that wait were taken off the card"
        if not self._device.copies_weights:
            return ""
        if True in {slot.evaluator.give_up() for slot in self._slots if slot.evaluator is not None}:
            return "evaluations are no longer recorded"
        checkpoints = [
            slot for slot in self._slots if slot.leases and slot.holds and slot.holds.ref.kind == "checkpoint"
        ]
        if True in {bundle.take_turns_with(slot) for slot in checkpoints}:
            return "the two models take turns on the card"
        mode = next_mode(bundle.offloader.mode)
        if mode is None or self._offload not in ("auto", mode):
            return ""
        self._least_mode[path_key(bundle.ref)] = mode
        bundle.offloader.set_mode(mode)
        return LESS_MEMORY[mode]

    def _slot_for(self, model: HostModel) -> ModuleSlot:
        """A free set of modules of its shape; one is built when all are leased with other weights."""
        same_shape = [slot for slot in self._slots if slot.shape == model.shape]
        for slot in same_shape:
            if slot.holds is model:
                return slot
        for slot in same_shape:
            if not slot.leases:
                return slot
        device = same_shape[0].device if same_shape else self._device
        slot = build(model.shape, model.components, device)
        self._slots.append(slot)
        return slot

    def _swap_in(self, model: HostModel, slot: ModuleSlot, beside: int) -> Offloader:
        """After this the modules compute with the model's weights."""
        self._slots.remove(slot)
        self._slots.append(slot)
        if slot.holds is not model:
            slot.swap_in(model)
        if not self._device.copies_weights:
            return Offloader(slot, "none")
        mode: Offload = "none"
        if model.ref.kind in _OFFLOADED and self._offload != "auto":
            mode = self._offload
        elif model.ref.kind in _OFFLOADED:
            limit = device_bytes(self._device)
            if limit is not None:
                others = [other for other in self._slots if other.leases and other not in (slot, slot.rival)]
                leased = sum(other.device_size for other in others)
                limit -= beside + leased
            mode = choose_mode(slot, limit, self._least_mode.get(path_key(model.ref), "none"))
        offloader = Offloader(slot, mode)
        make_room_on_card(model, slot, self._models.values(), self._slots, device_bytes(self._device))
        if offloader.mode != "none" or slot.rival is not None:
            return offloader
        try:
            for component in slot.modules:
                slot.onload(component)
        except torch.OutOfMemoryError:  # what other programs hold of the card shows only now
            if drop_copies(self._models.values()):
                return self._swap_in(model, slot, beside)
            if self._offload != "auto" or model.ref.kind not in _OFFLOADED:
                raise
            log.warning("%s does not fit beside what is on the card: its components are offloaded", model.ref.name)
            offloader.set_mode("encoders")
            self._least_mode[path_key(model.ref)] = "encoders"
            release()
            return offloader
        if model.ref.kind != "checkpoint":
            return offloader
        if not model.copy and not slot.changed and not slot.overrides:
            keep_copy(model, slot, self._models.values(), self._device)
        if self._device.second is not None:
            use_second_card(self._slots, slot, model, self._device.second)
        return offloader

    def make_evaluations(self) -> bool:
        """One step of what evaluations want, where memory allows; for idle time. Whether there is more to do."""
        room = min(self._budget - self._total_size(), int(memory().free / _COMPILE_MARGIN))
        return make_wanted(self._slots, self._openvino, room)

    # Making room

    def _make_room(self, ref: ModelRef, need: int, layout: Layout | None = None) -> WeightBuffer | None:
        """Before a load: evict what the budget and the machine's free memory require, and refuse what can't fit.

        The model that was used last stays if it can, so that it can still be used should the load fail.

        Returns:
            The buffer of an evicted model of the same layout: memory that need not be allocated and cleared again.
        """
        spare: WeightBuffer | None = None
        self._release_evaluations(need)
        newest = next(reversed(self._models), None)
        for key in list(self._models):
            if self._models[key].leases or self._models[key].is_pinned:
                continue
            is_within_budget = key == newest or self._total_size() + need <= self._budget
            if is_within_budget and need <= memory().free:
                break
            buffer = self._evict(key)
            if buffer.layout is layout:
                spare = buffer
                break
            is_pinned = buffer.is_pinned
            del buffer
            if is_pinned:
                give_back_pinned()
        free = memory().free
        if spare is None and need > free:
            has_pinned = any(model.is_pinned for model in self._models.values())
            raise OutOfMemory(
                f"{ref.name} needs {need / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free.",
                "Unpin a model, or close other programs."
                if has_pinned
                else "Close other programs, or use a smaller model.",
            )
        return spare

    def _release_evaluations(self, need: int) -> None:
        """Those of models that are not in use go before any model does."""
        for slot in self._slots:
            if self._total_size() + need <= self._budget and need <= memory().free:
                return
            if not slot.leases:
                slot.evaluations.release()

    def _total_size(self) -> int:
        models = sum(model.buffer.size for model in self._models.values())
        return models + sum(slot.evaluations.size for slot in self._slots)

    def _evict(self, key: str) -> WeightBuffer:
        """Forget a model. Its memory is free when the returned buffer is."""
        model = self._models.pop(key)
        self._least_mode.pop(path_key(model.ref), None)
        log.info("evicted %s", model.ref.name)
        for slot in self._slots:
            if slot.holds is model:
                slot.clear()
                slot.evaluations.release()
        # Every LoRA has a shape of its own, and most packed checkpoints.
        if model.ref.kind != "checkpoint" or model.buffer.layout.is_packed:
            shapes = {other.shape for other in self._models.values()}
            self._slots = [slot for slot in self._slots if slot.shape in shapes or slot.shape != model.shape]
        return model.buffer


def _cache_key(ref: ModelRef, path: str) -> str:
    # A VAE is another model for another family, which scales its latents otherwise.
    return f"{ref.kind}/{ref.family}/{ref.fingerprint or path}"
