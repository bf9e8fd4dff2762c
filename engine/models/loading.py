"""How a model gets from its files into a weight buffer: planned, checked, read; in this thread, or ahead in another."""

import hashlib
import json
import threading
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPTokenizer

from catalog.detect.control_models import read_control_model
from catalog.detect.text_encoders import identity_of
from catalog.families import FAMILIES
from catalog.files.folders import fingerprint, settings_of
from contract.errors import ModelProblem, StudioError
from contract.recipe import ModelRef
from engine import errors
from engine.checkpoints.component import Component
from engine.checkpoints.tokenizers import ClipTokenizers, check_vocabulary
from engine.models.components import components_of, scheduler_of, tokenizers_of, zeroes_empty_prompt
from engine.models.module_slot import ModuleSlot
from engine.weights.reading import Source, fill, match
from engine.weights.weight_buffer import Layout, WeightBuffer

_POLL_S = 0.05  # between two looks at a load in another thread


@dataclass(slots=True)
class HostModel:
    """A model in host memory.

    Attributes:
        digests: By component: identifies its weights.
        copy: Its segments on a card, beside those that modules compute with; empty where there are none.
    """

    ref: ModelRef
    path: Path
    shape: str
    components: Mapping[str, Component]
    buffer: WeightBuffer
    tokenizers: tuple[CLIPTokenizer, ...]
    scheduler_config: Mapping[str, Any]
    digests: Mapping[str, str]
    zeroes_empty_prompt: bool = True
    load_s: float = 0.0
    leases: int = 0
    is_pinned: bool = False
    copy: dict[int, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class LoadPlan:
    """A model whose files are known, and after `match`, found to fit its modules."""

    ref: ModelRef
    path: Path
    components: Mapping[str, Component]
    shape: str
    layout: Layout = field(init=False)
    tokenizers: tuple[CLIPTokenizer, ...] = ()
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    zeroes_empty_prompt: bool = True
    _sources: list[Source] = field(default_factory=list)

    def match(self, slot: ModuleSlot, clip: ClipTokenizers) -> None:
        """Check names and shapes of the files against the modules; reads only headers.

        Args:
            clip: For single files, which bring no tokenizers.
        Raises:
            ModelProblem: names file and tensor.
        """
        self.layout = slot.layout
        self._sources = []
        for name, component in self.components.items():
            self._sources += match(component.weights(), name, slot.layout, component.slices)
        if self.ref.kind == "checkpoint":
            tokenizers = tokenizers_of(self.ref, self.path, clip)
            check_vocabulary(tokenizers, slot.modules)
            self.tokenizers = tuple(tokenizers.values())
            self.scheduler_config = scheduler_of(self.ref, self.path)
            self.zeroes_empty_prompt = zeroes_empty_prompt(self.ref, self.path)
        self._refuse_changed()

    def _refuse_changed(self) -> None:
        """Check the fingerprint, before and after reading: the components of a file are opened one by one."""
        if not self.ref.fingerprint:
            return
        if self.ref.kind == "ip_adapter" and not self.path.is_dir():
            # Its fingerprint covers the image encoder, a model of its own.
            found = read_control_model(self.path).fingerprint
        elif self.ref.kind == "checkpoint" and self.path.is_file():
            found = identity_of(self.path, FAMILIES[self.ref.family])
        else:
            folder = self.path if self.path.is_dir() else self.path.parent
            files = {source.path for source in self._sources}
            found = fingerprint(folder, tuple(files), settings_of(self.path, self.ref.kind))
        if found != self.ref.fingerprint:
            raise ModelProblem(f"{self.ref.name} changed on the disk since it was chosen.", "Choose it again.")

    def read(self, buffer: WeightBuffer) -> Generator[float, None, HostModel]:
        """Fill a buffer; yields the fraction done.

        Raises:
            ModelProblem: the file ended early or changed, or a weight is not a finite number; names file and tensor.
        """
        began = time.monotonic()
        buffer.sums.clear()  # its memory may have been another model's
        yield from self.fill(buffer, tuple(self.components))
        return HostModel(
            self.ref,
            self.path,
            self.shape,
            self.components,
            buffer,
            self.tokenizers,
            self.scheduler_config,
            digests={name: self._digest(name, buffer) for name in self.components},
            zeroes_empty_prompt=self.zeroes_empty_prompt,
            load_s=round(time.monotonic() - began, 3),
        )

    def fill(self, buffer: WeightBuffer, components: Collection[str]) -> Iterator[float]:
        """Read some components into their place. Yields and raises as `read`."""
        sources = []
        for source in self._sources:
            if any(reading.spec.component in components for reading in source.readings):
                sources.append(source)
        done, total = 0, sum(source.size for source in sources)
        for source in sources:
            for size in fill(buffer, source):
                done += size
                yield done / max(total, 1)
        self._refuse_changed()

    def _digest(self, component: str, buffer: WeightBuffer) -> str:
        """Identifies what a component computes.

        All checkpoints that have the same VAE may share its previews. A text encoder's output depends on its
        tokenizer too, and decides the image: its digest is the model's own.
        """
        config = json.dumps(dict(self.components[component].config), sort_keys=True, default=str)
        digest = buffer.digest(component) + hashlib.blake2b(config.encode(), digest_size=8).hexdigest()
        if component.startswith("text_encoder"):
            digest += f"-{self.ref.fingerprint or self.path}"
        return digest


def plan_load(ref: ModelRef, path: str) -> LoadPlan:
    """What a model consists of.

    Raises:
        ModelProblem: a configuration is missing, or the family is not known.
    """
    components = components_of(ref, Path(path))
    configs = {name: dict(component.config) for name, component in components.items()}
    shape = json.dumps([ref.kind, ref.family, configs], sort_keys=True)
    packings = {name: dict(component.packings) for name, component in components.items() if component.packings}
    if packings:
        shape += f" packed {hashlib.sha256(json.dumps(packings, sort_keys=True).encode()).hexdigest()}"
    return LoadPlan(ref, Path(path), components, shape)


class Fetch:
    """A model that is read ahead in a thread of its own; nothing else touches its buffer until it is done."""

    def __init__(self, key: str, plan: LoadPlan, buffer: WeightBuffer) -> None:
        self.key, self.ref, self.buffer = key, plan.ref, buffer
        self.model: HostModel | None = None
        self.problem: str | None = None
        self._fraction = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(plan, buffer), name="prefetch", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the thread has ended, with success or without."""
        return not self._thread.is_alive()

    def wait(self) -> Iterator[float]:
        """Yield the fraction until all is read; closing the iterator doesn't stop the reading."""
        while not self.is_done:
            yield self._fraction
            self._thread.join(_POLL_S)

    def stop(self) -> None:
        """Give up; returns when the thread no longer uses the buffer."""
        self._stopping.set()
        self._thread.join()

    def _read(self, plan: LoadPlan, buffer: WeightBuffer) -> None:
        reader = plan.read(buffer)
        try:
            with errors.mapped_load(plan.ref.name):
                try:
                    while not self._stopping.is_set():
                        self._fraction = next(reader)
                except StopIteration as ended:
                    self.model = ended.value
        except StudioError as error:
            self.problem = error.message
