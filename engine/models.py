"""Which weights are in memory: leases, swaps, eviction by a budget of bytes.

One set of modules a model shape (`shelves.py`), one block of bytes a checkpoint (`blocks.py`): to swap is
to put another block on the shelf; nothing is rebuilt, so nothing leaks.
A load is a transaction: header checked, read, checked, kept; a failure leaves everything as it was.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPTokenizer

from catalog.folders import read_json
from contract.errors import ModelProblem, OutOfMemory
from contract.recipe import ModelRef
from engine.blocks import Block, Source, fill, match
from engine.devices import Device
from engine.families import family_of
from engine.families.family import Family
from engine.kinds import Part, parts_of
from engine.memory import memory
from engine.shelves import Shelf, build, device_bytes

_BUDGET_SHARE = 0.5  # of the machine's memory, unless the options say

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a lease gives: a checkpoint (or a control or adapter), ready to run. Valid only inside the lease.

    Attributes:
        parts: unet, vae, text_encoder; text_encoder_2 for SDXL; depth_estimator where the checkpoint brings one.
            Of what is no checkpoint, the one part of `kinds.py`, and neither tokenizers nor a scheduler.
        digests: Per part, a text that changes with its weights.
    """

    ref: ModelRef
    family: Family
    device: Device
    parts: Mapping[str, nn.Module]
    tokenizers: tuple[CLIPTokenizer, ...]
    scheduler_config: Mapping[str, Any]
    digests: Mapping[str, str]


@dataclass(slots=True)
class _Checkpoint:
    """A block with what belongs to it."""

    ref: ModelRef
    shape: str
    plan: Mapping[str, Part]
    block: Block
    tokenizers: tuple[CLIPTokenizer, ...]
    scheduler_config: Mapping[str, Any]
    digests: Mapping[str, str]
    leases: int = 0


class ModelManager:
    """Loads checkpoints and lends them out. For one thread.

    Args:
        budget_bytes: Host memory for weights; None takes half of the machine's. A single larger
            checkpoint is still loaded.
    """

    def __init__(self, device: Device, budget_bytes: int | None = None) -> None:
        self._device = device
        self._budget = budget_bytes or int(memory().total * _BUDGET_SHARE)
        self._checkpoints: dict[str, _Checkpoint] = {}  # least recently used first
        self._shelves: list[Shelf] = []  # least recently used first

    def resident(self) -> tuple[str, ...]:
        """Names of the models in memory, checkpoints before all others, newest first."""
        newest = sorted(reversed(self._checkpoints.values()), key=lambda held: held.ref.kind != "checkpoint")
        return tuple(held.ref.name for held in newest)

    def prepare(self, ref: ModelRef, path: str) -> Iterator[float]:
        """Read a checkpoint into memory unless it is there; yields the fraction that is done.

        Closing the iterator gives up the load and what it had read.

        Raises:
            ModelProblem: it can't be used; names the file and the tensor.
            OutOfMemory: there is no room for it.
        """
        key = _key(ref, path)
        if key in self._checkpoints:
            self._checkpoints[key] = self._checkpoints.pop(key)
            return
        yield 0.0
        folder = Path(path)
        plan = parts_of(ref, folder)
        shelf, sources = self._plan(ref, plan)
        tokenizers: tuple[CLIPTokenizer, ...] = ()
        scheduler_config: Mapping[str, Any] = {}
        if ref.kind == "checkpoint":
            tokenizers = tuple(_tokenizer(folder / name) for name in family_of(ref.family).tokenizers)
            _check_vocabulary(tokenizers, shelf.parts)
            scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json")
        self._make_room(ref, shelf.layout.size)
        block = Block.empty(shelf.layout, pinned=self._device.pins_memory)
        done, total = 0, sum(source.size for source in sources)
        for source in sources:
            for size in fill(block, source):
                done += size
                yield done / total
        digests = {part: block.digest(part) for part in shelf.parts}
        self._checkpoints[key] = _Checkpoint(ref, shelf.shape, plan, block, tokenizers, scheduler_config, digests)
        self._shrink(keep=key)
        log.info("loaded %s, %.0f MB", ref.name, block.layout.size / 1e6)

    @contextmanager
    def lease(self, ref: ModelRef, path: str) -> Iterator[Bundle]:
        """Borrow a checkpoint, loading it first if need be; it can't be evicted meanwhile."""
        for _ in self.prepare(ref, path):
            pass
        checkpoint = self._checkpoints[_key(ref, path)]
        shelf = self._shelf_for(checkpoint)
        self._put(checkpoint, shelf)
        checkpoint.leases += 1
        shelf.leases += 1
        try:
            yield Bundle(ref, family_of(ref.family), self._device, shelf.parts, checkpoint.tokenizers,
                         checkpoint.scheduler_config, checkpoint.digests)
        finally:
            checkpoint.leases -= 1
            shelf.leases -= 1

    def evict_all(self) -> None:
        """Let go of everything that is not leased, after the memory ran out."""
        for key in [key for key, checkpoint in self._checkpoints.items() if not checkpoint.leases]:
            self._evict(key)

    def _plan(self, ref: ModelRef, plan: Mapping[str, Part]) -> tuple[Shelf, list[Source]]:
        """Modules for the checkpoint's shape, and its files checked against them."""
        shape = json.dumps([ref.kind, ref.family, {name: dict(part.config) for name, part in plan.items()}],
                           sort_keys=True)
        shelf = next((shelf for shelf in self._shelves if shelf.shape == shape), None)
        shelf = shelf or build(shape, plan, self._device)
        sources = [match(part.weights(), name, shelf.layout, part.names) for name, part in plan.items()]
        if shelf not in self._shelves:
            self._shelves.append(shelf)
        return shelf, sources

    def _shelf_for(self, checkpoint: _Checkpoint) -> Shelf:
        """A free set of modules of its shape; one is built when all are leased with others."""
        same = [shelf for shelf in self._shelves if shelf.shape == checkpoint.shape]
        for shelf in same:
            if shelf.holds is checkpoint:
                return shelf
        for shelf in same:
            if not shelf.leases:
                return shelf
        shelf = build(checkpoint.shape, checkpoint.plan, self._device)
        self._shelves.append(shelf)
        return shelf

    def _put(self, checkpoint: _Checkpoint, shelf: Shelf) -> None:
        """Swap: after this the modules compute with the checkpoint's weights."""
        self._shelves.remove(shelf)
        self._shelves.append(shelf)
        if shelf.holds is checkpoint:
            return
        if self._device.copies_weights and not shelf.storage:
            self._free_device(shelf.layout.size)
        shelf.holds = None  # not until all bytes are there
        shelf.put(checkpoint.block, self._device)
        shelf.holds = checkpoint

    def _free_device(self, need: int) -> None:
        """Give up the storage of idle shelves, least recently used first, until `need` bytes fit."""
        limit = device_bytes(self._device.torch_device)
        for shelf in list(self._shelves):
            used = sum(sum(other.layout.segment_bytes) for other in self._shelves if other.storage)
            if limit is None or used + need <= limit:
                return
            if shelf.storage and not shelf.leases:
                shelf.clear()

    def _make_room(self, ref: ModelRef, need: int) -> None:
        """Before a load: evict what the machine's free memory asks for, and refuse what can't fit."""
        idle = [key for key, checkpoint in self._checkpoints.items() if not checkpoint.leases]
        while need > memory().free and idle:
            self._evict(idle.pop(0))
        free = memory().free
        if need > free:
            raise OutOfMemory(f"{ref.name} needs {need / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free.",
                              "Close other programs, or use a smaller model.")

    def _shrink(self, keep: str) -> None:
        """After a load: back under the budget, least recently used first."""
        for key in list(self._checkpoints):
            total = sum(checkpoint.block.layout.size for checkpoint in self._checkpoints.values())
            if total <= self._budget:
                return
            if key != keep and not self._checkpoints[key].leases:
                self._evict(key)

    def _evict(self, key: str) -> None:
        checkpoint = self._checkpoints.pop(key)
        log.info("evicted %s", checkpoint.ref.name)
        for shelf in self._shelves:
            if shelf.holds is checkpoint:
                shelf.clear()


def _key(ref: ModelRef, path: str) -> str:
    return ref.fingerprint or path


def _tokenizer(folder: Path) -> CLIPTokenizer:
    # Without these files transformers makes an empty tokenizer and says nothing.
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelProblem(f"{folder.name} has neither tokenizer.json nor vocab.json.",
                           "Download the model again.")
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelProblem(f"{folder.name} can't be read: {str(error)[:200]}",
                           "Download the model again.") from None


def _check_vocabulary(tokenizers: tuple[CLIPTokenizer, ...], parts: Mapping[str, nn.Module]) -> None:
    for number, tokenizer in enumerate(tokenizers, 1):
        encoder = "text_encoder" if number == 1 else f"text_encoder_{number}"
        known = parts[encoder].config.vocab_size
        if len(tokenizer) > known:
            raise ModelProblem(f"The tokenizer knows {len(tokenizer):,} tokens; {encoder} was made for {known:,}.",
                               "Use the tokenizer that came with the model.")
