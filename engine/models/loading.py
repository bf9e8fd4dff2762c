"""How a model gets from its files into a block: planned, checked, read; in this thread, or ahead in another."""

import hashlib
import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from catalog.detect.control_models import read_control_model
from catalog.files.folders import fingerprint, settings_of
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from engine import errors
from engine.checkpoints.components import Component, components_of, scheduler_of, tokenizers_of, zeroes_empty_prompt
from engine.checkpoints.tokenizers import check_vocabulary
from engine.models.module_slot import ModuleSlot
from engine.weights.reading import Source, fill, match
from engine.weights.weight_buffer import Layout, WeightBuffer

_LOOK_S = 0.05  # between two looks at a load in another thread


@dataclass(slots=True)
class HostModel:
    """A block with what belongs to it."""

    ref: ModelRef
    path: Path
    shape: str
    plan: Mapping[str, Component]
    block: WeightBuffer
    tokenizers: tuple[CLIPTokenizer, ...]
    scheduler_config: Mapping[str, Any]
    digests: Mapping[str, str]
    zeroes_empty_prompt: bool = True
    load_s: float = 0.0
    leases: int = 0
    is_pinned: bool = False


@dataclass(slots=True)
class LoadPlan:
    """A model whose files are known, and once matched, found to fit its modules."""

    ref: ModelRef
    path: Path
    plan: Mapping[str, Component]
    shape: str
    layout: Layout = field(init=False)
    tokenizers: tuple[CLIPTokenizer, ...] = ()
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    zeroes_empty_prompt: bool = True
    _sources: list[Source] = field(default_factory=list)

    def match(self, slot: ModuleSlot) -> None:
        """Check names and shapes of the files against the modules; reads only headers.

        Raises:
            ModelProblem: names file and tensor.
        """
        self.layout = slot.layout
        self._sources = [
            source
            for name, part in self.plan.items()
            for source in match(part.weights(), name, slot.layout, part.slices)
        ]
        if self.ref.kind == "checkpoint":
            self.tokenizers = tokenizers_of(self.ref, self.path)
            check_vocabulary(self.tokenizers, slot.parts)
            self.scheduler_config = scheduler_of(self.ref, self.path)
            self.zeroes_empty_prompt = zeroes_empty_prompt(self.ref, self.path)
        self._refuse_changed()

    def _refuse_changed(self) -> None:
        """What was chosen is what is read: before, and after, since the parts of a file are opened one by one."""
        if self.ref.fingerprint and self._fingerprint() != self.ref.fingerprint:
            raise ModelProblem(f"{self.ref.name} changed on the disk since it was chosen.", "Choose it again.")

    def _fingerprint(self) -> str:
        if self.path.is_dir():
            folder = self.path
        elif self.ref.kind == "ip_adapter":  # of two models, the other of which encodes its pictures
            return read_control_model(self.path).fingerprint
        else:
            folder = self.path.parent
        files = {source.path for source in self._sources}
        return fingerprint(folder, tuple(files), settings_of(self.path, self.ref.kind))

    def read(self, block: WeightBuffer) -> Generator[float, None, HostModel]:
        """Fill a block; yields the fraction that is done.

        Raises:
            ModelProblem: the file ended early or changed, or a weight is not a finite number; names file and tensor.
        """
        began = time.monotonic()
        block.sums.clear()  # its memory may have been another model's
        done, total = 0, sum(source.size for source in self._sources)
        for source in self._sources:
            for size in fill(block, source):
                done += size
                yield done / max(total, 1)
        self._refuse_changed()
        digests = {part: self._digest(part, block) for part in self.plan}
        return HostModel(
            self.ref,
            self.path,
            self.shape,
            self.plan,
            block,
            self.tokenizers,
            self.scheduler_config,
            digests,
            self.zeroes_empty_prompt,
            round(time.monotonic() - began, 3),
        )

    def _digest(self, part: str, block: WeightBuffer) -> str:
        """Tells what a part makes from what others make.

        A VAE's previews may be shared by all checkpoints that have it; what a text encoder makes depends on its
        tokenizer too, and decides the picture: it is the model's own.
        """
        settings = hashlib.blake2b(
            json.dumps(dict(self.plan[part].config), sort_keys=True, default=str).encode(), digest_size=8
        ).hexdigest()
        own = f"-{self.ref.fingerprint or self.path}" if part.startswith("text_encoder") else ""
        return f"{block.digest(part)}{settings}{own}"


def plan_load(ref: ModelRef, path: str) -> LoadPlan:
    """What a model consists of.

    Raises:
        ModelProblem: a configuration is missing, or the family is not known.
    """
    plan = components_of(ref, Path(path))
    shape = json.dumps([ref.kind, ref.family, {name: dict(part.config) for name, part in plan.items()}], sort_keys=True)
    return LoadPlan(ref, Path(path), plan, shape)


class Fetch:
    """A model that is read ahead in a thread of its own; nobody else touches its block until it is done."""

    def __init__(self, key: str, wanted: LoadPlan, block: WeightBuffer) -> None:
        self.key, self.ref, self.block = key, wanted.ref, block
        self.held: HostModel | None = None
        self.problem: str | None = None
        self._fraction = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(wanted, block), name="prefetch", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the thread has ended, well or not."""
        return not self._thread.is_alive()

    def wait(self) -> Iterator[float]:
        """Yield the fraction until all is read; closing it leaves the reading as it is."""
        while not self.is_done:
            yield self._fraction
            self._thread.join(_LOOK_S)

    def stop(self) -> None:
        """Give it up; returns when the thread has let go of the block."""
        self._stopping.set()
        self._thread.join()

    def _read(self, wanted: LoadPlan, block: WeightBuffer) -> None:
        reader = wanted.read(block)
        try:
            while not self._stopping.is_set():
                self._fraction = next(reader)
        except StopIteration as ended:
            self.held = ended.value
        except Exception as error:
            self.problem = errors.as_studio_error(error, wanted.ref.name, "its weights").message
