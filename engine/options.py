"""How an engine runs: what it is told once, at its start."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from engine.device.attention import AttentionChoice
from engine.device.compiling import can_compile
from engine.device.devices import Device, DeviceChoice, second_card
from engine.device.openvino_backend import BackendChoice
from engine.device.precision import Precision
from engine.models.layerwise_casting import StorageChoice
from engine.models.offload import OffloadChoice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        threads: Of the CPU; None leaves torch's choice.
        cache_dir: For what is computed once per model (preview maps); None keeps nothing.
        memory_budget_bytes: Host memory for weights; None takes half of the machine's.
        sharers: How many engines share the machine's memory; None: one for each card that this one sees.
        precision: Of U-Net and text encoders (`device/precision.py`); None is the device's usual one.
        offload: How a model's components are kept on a card (`models/offload.py`).
        attention: Which implementation computes it (`device/attention.py`).
        annotator_dirs: Where the files of preprocessors are.
        batch_jobs: How many jobs may share one batch; None: as many as the device gains by (`device/batch_table.py`).
        cuda_graphs: Whether a card records what it evaluates (`device/cuda_graphs.py`).
        compile: Whether it compiles in idle time (`device/compiling.py`).
        cfg_split: Whether a second card computes half of every batch (`models/second_card.py`).
        backend: What evaluates models on a CPU (`device/openvino_backend.py`).
        storage: How a CPU holds the weights of float32 models (`models/layerwise_casting.py`).
    """

    device: DeviceChoice = "auto"
    threads: int | None = None
    cache_dir: Path | None = None
    memory_budget_bytes: int | None = None
    sharers: int | None = None
    precision: Precision | None = None
    offload: OffloadChoice = "auto"
    attention: AttentionChoice = "auto"
    annotator_dirs: tuple[Path, ...] = ()
    batch_jobs: int | None = None
    cuda_graphs: bool = True
    compile: bool = False
    cfg_split: bool = False
    backend: BackendChoice = "torch"
    storage: StorageChoice = "full"


def with_options(device: Device, options: EngineOptions) -> Device:
    """The device as the options want it, as far as it can do that."""
    compiles = options.compile and can_compile(device.torch_device)
    if options.compile and not compiles:
        log.warning("compile: %s has no compiler that torch can use; models are evaluated as ever", device.label)
    second = second_card(device.torch_device) if options.cfg_split else None
    if options.cfg_split and second is None:
        log.warning("cfg_split: there is no second card like %s; models are evaluated on one device", device.label)
    return replace(
        device,
        attention=options.attention,
        records_graphs=device.records_graphs and options.cuda_graphs,
        compiles=compiles,
        compiled_dir=options.cache_dir,
        second=second,
    )
