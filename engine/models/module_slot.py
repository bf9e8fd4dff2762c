"""The modules of one model shape: built once without weights, then given one checkpoint after another.

On the CPU the modules' tensors point into a weight buffer. On a card each component lies in fixed storage that buffers
are copied into, so that whatever was captured with its addresses outlives a swap. A component may be offloaded and come
back (`offload.py`); single tensors may be overridden for a while (LoRAs). Which buffer, `manager.py` decides.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.checkpoints.component import Builder, Component, Config
from engine.checkpoints.foreign_config import blame_config
from engine.device.attention import set_attention
from engine.device.card_evaluator import CardEvaluator, evaluator_for
from engine.device.devices import Device
from engine.device.evaluations import Call, Evaluations, Outputs
from engine.families import family_of
from engine.models.group_offload import GroupOffload
from engine.models.layerwise_casting import Numbers, cast_layerwise, may_stay_packed, no_weights
from engine.weights.named_tensors import NamedTensors
from engine.weights.packed import expanded
from engine.weights.reading import spellings
from engine.weights.weight_buffer import PINNED_SEGMENT_BYTES, Layout, TensorSpec, WeightBuffer, lay_out, view

if TYPE_CHECKING:
    from engine.models.loading import HostModel

State = TypeVar("State")
_DRAWS_WEIGHTS = ("torch.nn.init", "transformers.initialization")  # whose functions fill a tensor and return it
_NEVER_STORED_IN_HALF = ("depth_estimator",)
TensorKey = tuple[str, str]  # a component, and the name of a tensor in it
Change = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class ModuleSlot:
    """The modules of one shape, and the weights in them.

    Attributes:
        shape: Family and configurations as text; equal for checkpoints that can share the modules.
        modules: By component.
        targets: The modules' own tensors with their specs, or what holds the weights that layers are given as they run.
        holds: The model whose weights the modules compute with; None while they are swapped.
        buffer: Its bytes.
        copy: The same bytes on the card, by segment; empty without such a copy.
        storage: Fixed device memory of each onloaded component, by segment; empty on the CPU.
        group_offloads: Components that pass through the device group by group instead.
        changed: Tensors on the device that differ from the buffer's.
        overrides: Tensors in host memory that are used instead of the buffer's.
        changes: What is to be done to the numbers of packed tensors each time they are expanded (LoRAs).
        adapter_state: What adapters keep about their changes, by its class; dropped at a swap.
        evaluations: Faster than the modules themselves, on the CPU.
        evaluator: Of the denoiser, on a card; what it records is dropped when components leave the card.
        may_offload: Whether components may leave the device while the modules are leased.
        rival: Modules that take turns with these on the device: whichever compute, the others are off it.
        revision: Changes with every change of weights on the device.
    """

    shape: str
    modules: Mapping[str, nn.Module]
    layout: Layout
    targets: Mapping[TensorKey, tuple[TensorSpec, Tensor]]
    device: Device
    holds: "HostModel | None" = None
    buffer: WeightBuffer | None = None
    copy: Mapping[int, Tensor] = field(default_factory=dict)
    storage: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    group_offloads: dict[str, GroupOffload] = field(default_factory=dict)
    changed: set[TensorKey] = field(default_factory=set)
    overrides: dict[TensorKey, Tensor] = field(default_factory=dict)
    changes: dict[TensorKey, Change] = field(default_factory=dict)
    adapter_state: dict[type, object] = field(default_factory=dict)
    evaluations: Evaluations = field(default_factory=Evaluations)
    evaluator: CardEvaluator | None = None
    may_offload: bool = False
    rival: "ModuleSlot | None" = None
    revision: int = 0
    leases: int = 0

    @property
    def device_size(self) -> int:
        """Bytes on the device."""
        stored = sum(self.layout.component_size(component) for component in self.storage)
        return stored + sum(group_offload.size for group_offload in self.group_offloads.values())

    @property
    def overrides_size(self) -> int:
        """Bytes of host memory that overrides take beside the buffer."""
        return sum(value.numel() * value.element_size() for value in self.overrides.values())

    def swap_in(self, model: "HostModel") -> None:
        """After this the modules compute with the model's weights, wherever its components are."""
        self.holds = None  # until all bytes are there
        self._forget_changes()
        self.buffer, self.copy = model.buffer, model.copy
        if not self.device.copies_weights:
            for spec, target in self.targets.values():
                target.data = model.buffer.tensor(spec)
        for component in self.storage:
            self._copy(component)
        for group_offload in self.group_offloads.values():
            group_offload.use(model.buffer)
        self.holds = model

    @torch.inference_mode(False)  # the storage outlives the caller's mode
    def onload(self, component: str) -> None:
        """Bring a component to the device, unless it is there; may raise torch's out-of-memory errors."""
        if not self.device.copies_weights or component in self.storage:
            return
        assert self.buffer is not None
        if component in self.group_offloads:
            self.offload(component)
        self.allocate(component)
        self._copy(component)

    @torch.inference_mode(False)
    def allocate(self, component: str) -> None:
        """Fixed storage for a component, whose bytes are yet to come."""
        device = self.device.torch_device
        storage = {}
        for segment in self.layout.components[component]:
            storage[segment] = torch.empty(self.layout.segment_bytes[segment], dtype=torch.uint8, device=device)
        self.storage[component] = storage
        for (owner, _), (spec, target) in self.targets.items():
            if owner == component:
                target.data = view(storage, spec)

    def onload_in_groups(self, component: str) -> None:
        """Let a component pass through the device group by group from now on."""
        if component in self.group_offloads:
            return
        assert self.buffer is not None
        self.offload(component)
        own = {name: target for (owner, name), target in self.targets.items() if owner == component}
        self.group_offloads[component] = GroupOffload(
            self.modules[component],
            own,
            self.buffer,
            self.device.torch_device,
            override_of=lambda name: self.overrides.get((component, name)),
        )

    def offload(self, component: str) -> None:
        """Take a component off the device; tensors that were changed there go to the host with it."""
        for key in self.changed:
            if key[0] == component and key not in self.overrides:
                spec, target = self.targets[key]
                self.overrides[key] = self._in_host_memory(target, spec)
        group_offload = self.group_offloads.pop(component, None)
        if group_offload is not None:
            group_offload.close()
        if component in self.storage or group_offload is not None:
            if self.evaluator is not None:
                self.evaluator.forget()
            self.storage.pop(component, None)
            for (owner, _), (_, target) in self.targets.items():
                if owner == component:
                    target.data = target.data.new_empty(0)

    def park(self) -> None:
        """Give back the memory of all weights but the VAE's until `unpark`; overrides stay, so that LoRAs do."""
        assert self.buffer is not None
        parked = self.modules.keys() - {"vae"}
        self.evaluations.release()
        for component in parked:
            self.offload(component)
        for key, (_, target) in self.targets.items():
            if key[0] in parked and key not in self.overrides:
                target.data = target.data.new_empty(0)
        self.buffer.release(parked)

    def unpark(self) -> None:
        """The bytes are in the buffer again."""
        assert self.buffer is not None
        for key, (spec, target) in self.targets.items():
            if not self.device.copies_weights and key not in self.overrides:
                target.data = self.buffer.tensor(spec)

    def evaluate(
        self, component: str, call: Call, inputs: tuple[Tensor, ...], weights: str, is_denoiser: bool
    ) -> Outputs:
        """`call(module, *inputs)` by what is ready and best; of weights that are cast or expanded that is the module.

        Args:
            weights: Their digest, where OpenVINO may be used.
            is_denoiser: Traced on the CPU, and evaluated as `evaluator` does on a card; there a ControlNet is, too.
        """
        module = self.modules[component]
        if is_denoiser and self.evaluator is not None and not self.may_offload:
            return (self.evaluator(module, call, inputs),)
        if component == "controlnet" and self.evaluator is not None and not self.may_offload:
            return self.evaluator.outputs(module, call, inputs)
        is_cast = self.device.storage_dtype is not None or self.layout.is_packed
        if self.device.torch_device.type != "cpu" or is_cast:
            return call(module, *inputs)
        found = self.evaluations.find(component, call, inputs, weights)
        if found is not None:
            return found(*inputs)
        return self.evaluations.run(module, component, call, inputs, weights, is_denoiser)

    def compile_wanted(self) -> bool:
        """Compile the denoiser for one of the shapes that were used, if it is on the card; whether that took time."""
        if self.evaluator is None or self.holds is None or self.may_offload:
            return False
        denoiser = family_of(self.holds.ref.family).facts.denoiser
        is_there = denoiser in self.modules and (denoiser in self.storage or not self.device.copies_weights)
        return is_there and self.evaluator.compile_wanted(self.modules[denoiser])

    def clear(self) -> None:
        """Release the bytes that the modules compute with."""
        self._forget_changes()
        for component in self.modules:
            self.offload(component)
        for _, target in self.targets.values():
            target.data = target.data.new_empty(0)
        self.holds = self.buffer = None
        self.copy = {}

    def _forget_changes(self) -> None:
        self.evaluations.forget_wanted()
        self.changed.clear()
        self.overrides.clear()
        self.changes.clear()
        self.adapter_state.clear()

    def state_of(self, kind: type[State]) -> State:
        """What an adapter keeps about its changes to these weights: an instance of its class, made at first use."""
        if kind not in self.adapter_state:
            self.adapter_state[kind] = kind()
        state = self.adapter_state[kind]
        assert isinstance(state, kind)
        return state

    @torch.inference_mode(False)  # the copy outlives the caller's mode
    def copy_segments(self) -> dict[int, Tensor]:
        """All bytes as the checkpoint has them, copied on the card; may raise torch's out-of-memory errors."""
        assert not self.changed and not self.overrides
        return {number: segment.clone() for part in self.storage.values() for number, segment in part.items()}

    def original(self, component: str, name: str) -> Tensor:
        """The checkpoint's own tensor, never to be written: on the card where it has a copy, else in host memory."""
        assert self.buffer is not None
        spec = self.targets[component, name][0]
        found = view(self.copy, spec) if spec.segment in self.copy else self.buffer.tensor(spec)
        return expanded(found, spec.packing, spec.shape) if spec.packing else found

    def spec(self, component: str, name: str) -> TensorSpec:
        """Shape and packing of a tensor."""
        return self.targets[component, name][0]

    def present(self, component: str, name: str) -> Tensor | None:
        """A tensor as it is now on the device; None while its component is offloaded, or if it is packed."""
        if (self.device.copies_weights and component not in self.storage) or self.spec(component, name).packing:
            return None
        return self.targets[component, name][1].data

    def replace(self, component: str, values: Mapping[str, Tensor]) -> None:
        """Override tensors of a component, by values of any device and dtype; they belong to the slot from now on."""
        self.revision += 1
        self.evaluations.forget_wanted(component)
        for name, value in values.items():
            key = (component, name)
            spec, target = self.targets[key]
            if not self.device.copies_weights:
                self.overrides[key] = target.data = self._in_host_memory(value, spec)
                continue
            if component in self.storage:
                target.copy_(value)
                self.changed.add(key)
            if self.may_offload or component not in self.storage:
                self.overrides[key] = self._in_host_memory(value, spec)
            else:
                self.overrides.pop(key, None)  # of an earlier lease: `offload` keeps the new value
        self._invalidate_groups(component)

    def change(self, component: str, name: str, change: Change) -> None:
        """Do something to the numbers of a packed tensor each time it is expanded, until it is restored.

        Args:
            change: From numbers in float32 on the device to others there.
        """
        assert self.spec(component, name).packing
        self.revision += 1
        self.changes[component, name] = change

    def restore(self, component: str, names: Iterable[str]) -> None:
        """Give tensors the checkpoint's own values again, to the bit."""
        assert self.buffer is not None
        self.revision += 1
        self.evaluations.forget_wanted(component)
        for name in names:
            key = (component, name)
            spec, target = self.targets[key]
            if spec.packing:
                self.changes.pop(key, None)
                continue
            self.overrides.pop(key, None)
            self.changed.discard(key)
            if not self.device.copies_weights:
                target.data = self.original(component, name)
            elif component in self.storage:
                target.copy_(self.original(component, name), non_blocking=True)
        self._invalidate_groups(component)

    def _invalidate_groups(self, component: str) -> None:
        if component in self.group_offloads:
            self.group_offloads[component].invalidate()

    @staticmethod
    @torch.inference_mode(False)
    def _in_host_memory(value: Tensor, spec: TensorSpec) -> Tensor:
        """A value in host memory as the buffer would have it; a copy unless it is so already."""
        if value.device.type == "cpu" and value.dtype == spec.dtype and not spec.is_channels_last:
            return value.detach().reshape(spec.shape)
        copy = torch.empty(spec.shape, dtype=spec.dtype)
        if spec.is_channels_last:
            copy = copy.to(memory_format=torch.channels_last)
        return copy.copy_(value)

    def _copy(self, component: str) -> None:
        """Weight buffer -> fixed device storage; on CUDA in a stream of its own that the current one waits for.

        A copy on the card is quicker, and needs no stream of its own.
        """
        assert self.buffer is not None
        self.revision += 1
        device, storage = self.device.torch_device, self.storage[component]
        if device.type != "cuda" or storage.keys() <= self.copy.keys():
            for segment, target in storage.items():
                target.copy_(self.copy.get(segment, self.buffer.segments[segment]))
        else:
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for segment, target in storage.items():
                    target.copy_(self.buffer.segments[segment], non_blocking=True)
            torch.cuda.current_stream(device).wait_stream(stream)
        for key, value in self.overrides.items():
            if key[0] == component:
                self.targets[key][1].copy_(value)


def build(shape: str, components: Mapping[str, Component], device: Device) -> ModuleSlot:
    """Build the modules of a shape, without weights.

    Raises:
        ModelProblem: a configuration describes nothing that can be built.
    """
    # The estimator normalizes over its batch, which half precision can't carry; T5's activations exceed float16.
    t5_dtype = torch.bfloat16 if device.dtype == torch.float16 else device.dtype
    own_dtypes = {"vae": device.vae_dtype, "depth_estimator": torch.float32, "text_encoder_3": t5_dtype}
    modules: dict[str, nn.Module] = {}
    dtypes: dict[str, torch.dtype] = {}
    stored_dtypes: dict[str, torch.dtype] = {}
    for name, component in components.items():
        modules[name] = on_meta(name, component.build, component.config)
        dtypes[name] = component.dtype or own_dtypes.get(name, device.dtype)
        is_run = name not in _NEVER_STORED_IN_HALF and not isinstance(modules[name], NamedTensors)
        if device.storage_dtype is not None and dtypes[name] == torch.float32 and is_run:
            stored_dtypes[name] = device.storage_dtype
    limit = PINNED_SEGMENT_BYTES if device.pins_memory else None
    packings = _packings(modules, components)
    layout = lay_out(
        modules, dtypes | stored_dtypes, channels_last=device.channels_last, segment_limit=limit, packings=packings
    )
    targets: dict[TensorKey, tuple[TensorSpec, Tensor]] = {}
    changes: dict[TensorKey, Change] = {}
    stored: dict[str, dict[str, Tensor]] = {}
    numbers_of: dict[str, dict[str, Numbers]] = {}
    for spec in layout.specs:
        is_cast = bool(spec.packing) or (spec.component in stored_dtypes and spec.dtype.is_floating_point)
        dtype = dtypes[spec.component] if is_cast else spec.dtype
        target = _replace_meta(modules[spec.component], spec.name, dtype, device.torch_device)
        if is_cast:
            target.data = no_weights(spec.shape, dtype, device.torch_device)
            target = torch.empty(0, dtype=spec.dtype, device=device.torch_device)
            stored.setdefault(spec.component, {})[spec.name] = target
        if spec.packing:
            numbers_of.setdefault(spec.component, {})[spec.name] = _expanding(spec, changes)
        targets[spec.component, spec.name] = (spec, target)
    for name, of_component in stored.items():
        cast_layerwise(modules[name], of_component, numbers_of.get(name, {}))
    for module in modules.values():
        module.to(device.torch_device)  # what is left are buffers that no file holds
        set_attention(module, device)
    evaluator = None if packings else evaluator_for(device, shape)  # which knows no hooks
    return ModuleSlot(shape, modules, layout, targets, device, changes=changes, evaluator=evaluator)


def _packings(modules: Mapping[str, nn.Module], components: Mapping[str, Component]) -> dict[TensorKey, str]:
    """The tensors that stay packed in memory, by the modules' names."""
    packings: dict[TensorKey, str] = {}
    for name, component in components.items():
        own = modules[name].state_dict() if component.packings else {}
        for tensor, packing in component.packings.items():
            spelled = next((one for one in spellings(tensor) if one in own), "")
            if spelled and may_stay_packed(modules[name], spelled):
                packings[name, spelled] = packing
    return packings


def _expanding(spec: TensorSpec, changes: Mapping[TensorKey, Change]) -> Numbers:
    """From the bytes of a packed tensor to its numbers, with what is to be done to them."""
    key = (spec.component, spec.name)

    def numbers(raw: Tensor) -> Tensor:
        found = expanded(raw, spec.packing, spec.shape)
        change = changes.get(key)
        return found if change is None else change(found)

    return numbers


class _WithoutInitialization(TorchFunctionMode):
    """Leaves weights as they are where a module would draw its first ones: on meta they have no values.

    Drawing on meta takes most of the time of building a module, and imports torch's compiler.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) in _DRAWS_WEIGHTS:
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def on_meta(component: str, builder: Builder, config: Config) -> nn.Module:
    """A module without weights; buffers that no file holds (CLIP's position ids) are real.

    Raises:
        ModelProblem: the configuration describes nothing that can be built.
    """
    with (
        blame_config(
            f"{component}/config.json doesn't describe a model that can be built",
            "Use the config.json that came with the model.",
        ),
        init_empty_weights(include_buffers=False),
        _WithoutInitialization(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        return builder(config).eval().requires_grad_(False)


def _replace_meta(module: nn.Module, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Put an empty tensor of the run dtype in place of one on meta, for all swaps to come."""
    empty = torch.empty(0, dtype=dtype, device=device)
    if isinstance(module, NamedTensors):
        return module.put(name, empty)
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if leaf in owner._parameters:
        parameter = nn.Parameter(empty, requires_grad=False)
        owner._parameters[leaf] = parameter
        return parameter
    owner._buffers[leaf] = empty
    return empty
