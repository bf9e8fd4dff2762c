"""Where parts lie on a device with memory of its own: shown on the CPU, by the same code."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from catalog.models import ModelEntry
from contract.work import WorkDone, WorkFailed, WorkImage, WorkItem, WorkNotice, path_key
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.families.unet import predict_with
from engine.models import group_offload
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.models.module_slot import ModuleSlot
from engine.models.offload import MODES, Offload, choose_mode
from engine.sampling.denoise import Conditions


class AdapterState:
    """What an adapter might keep with the weights that it changed."""

    name = ""


CARD = Device(torch.device("cpu"), "a card", torch.float32, torch.float32, copies_weights=True)
Make = Callable[..., Any]


def _png() -> bytes:
    file = BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 64)).save(file, "PNG")
    return file.getvalue()


PNG = _png()


def placed(bundle: Bundle) -> set[str]:
    slot = bundle._slot
    return set(slot.storage) | {f"{name} in groups" for name in slot.group_offloads}


def lease(entry: ModelEntry, mode: Offload) -> Any:
    return ModelManager(CARD, offload=mode).lease(entry.ref, str(entry.path))


def test_without_offload_all_parts_stay(entries: dict[str, ModelEntry]) -> None:
    with lease(entries["sdxl"], "none") as bundle:
        assert placed(bundle) == {"unet", "vae", "text_encoder", "text_encoder_2"}


def test_encoders_leave_when_the_painting_begins(entries: dict[str, ModelEntry]) -> None:
    with lease(entries["sdxl"], "encoders") as bundle:
        assert placed(bundle) == set()
        bundle.onload("text_encoder"), bundle.onload("text_encoder_2")
        assert placed(bundle) == {"text_encoder", "text_encoder_2"}
        bundle.onload("unet"), bundle.onload("vae")
        assert placed(bundle) == {"unet", "vae"}


def test_one_part_at_a_time(entries: dict[str, ModelEntry]) -> None:
    with lease(entries["sd1"], "model") as bundle:
        for part in ("text_encoder", "unet", "vae", "unet"):
            bundle.onload(part)
            assert placed(bundle) == {part}
        assert bundle.has("unet") and not bundle.has("none")
        assert placed(bundle) == {"unet"}


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that the tiny models are taken apart too."""
    monkeypatch.setattr(group_offload, "GROUP_BYTES", 20_000)


@pytest.fixture
def on_card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """An engine on a device with memory of its own."""

    def make(mode: Any = "auto", memory_bytes: int | None = None) -> Engine:
        device = replace(CARD, memory_bytes=memory_bytes)
        monkeypatch.setattr("engine.engine.choose_device", lambda *_: device)
        return Engine(EngineOptions(offload=mode))

    return make


def painted(engine: Engine, work_item: WorkItem) -> tuple[bytes, list[str]]:
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone), events[-1]
    (picture,) = [event.pixels.rgb for event in events if isinstance(event, WorkImage)]
    return picture, [event.code for event in events if isinstance(event, WorkNotice)]


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("small_groups")
def test_every_mode_paints_the_same_bits(
    mode: str, kind: str, on_card: Callable[..., Engine], make_recipe: Make, make_work_item: Make, engine: Engine
) -> None:
    work_item = make_work_item(make_recipe(kind, hires={"scale": 1.5, "strength": 0.6}))
    other = make_work_item(make_recipe("sd1_other"))
    expected, expected_other = painted(engine, work_item), painted(engine, other)
    card = on_card(mode)
    for _ in range(2):
        assert painted(card, work_item) == expected
        assert painted(card, other) == expected_other  # another block of the same shape comes between


@pytest.mark.usefixtures("small_groups")
def test_the_unet_passes_in_groups_through_two_buffers(entries: dict[str, ModelEntry]) -> None:
    with lease(entries["sd1"], "group") as bundle:
        unet = bundle.onload("unet")
        (offloaded,) = bundle._slot.group_offloads.values()
        unet(torch.zeros(1, 4, 8, 8), torch.tensor(1), torch.zeros(1, 77, 32))
        order = offloaded._pipeline.order
        assert len(order) > 4
        assert [group.staging for group in order] == [number % 2 for number in range(len(order))]
        whole = bundle._slot.layout.component_size("unet")
        assert offloaded.size < 0.8 * whole
        assert placed(bundle) == {"unet in groups"}


def test_the_mode_follows_from_the_memory(entries: dict[str, ModelEntry]) -> None:
    with lease(entries["sd1"], "none") as bundle:
        slot, sizes = bundle._slot, bundle._slot.layout.component_size
        whole = slot.layout.size
        assert choose_mode(slot, None) == choose_mode(slot, whole) == "none"
        assert choose_mode(slot, whole - 1) == "encoders"
        largest = max(map(sizes, slot.modules))
        assert choose_mode(slot, sizes("unet") + sizes("vae") - 1) == "model"
        assert choose_mode(slot, largest - 1) == "group"
        assert choose_mode(slot, None, at_least="model") == "model"


def test_a_card_that_is_too_small_is_used_all_the_same(
    on_card: Callable[..., Engine],
    make_recipe: Make,
    make_work_item: Make,
    engine: Engine,
    entries: dict[str, ModelEntry],
) -> None:
    work_item = make_work_item(make_recipe())
    card = on_card(memory_bytes=entries["sd1"].size_bytes // 2)
    for _ in range(3):
        assert painted(card, work_item) == painted(engine, work_item)
    status = card.describe()
    assert status.device_bytes == entries["sd1"].size_bytes // 2
    assert [held.place for held in status.models] == ["device"]


def test_a_card_that_other_programs_fill_is_used_all_the_same(
    on_card: Callable[..., Engine],
    make_recipe: Make,
    make_work_item: Make,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onload = ModuleSlot.onload

    def crowded(self: ModuleSlot, component: str) -> None:
        if (
            component not in self.storage
            and self.device_size + self.layout.component_size(component) >= self.layout.size
        ):
            raise torch.OutOfMemoryError("CUDA out of memory")
        onload(self, component)

    work_item = make_work_item(make_recipe())
    expected = painted(engine, work_item)
    monkeypatch.setattr(ModuleSlot, "onload", crowded)
    card = on_card()
    assert [painted(card, work_item) for _ in range(2)] == [expected] * 2
    told_to_stay = on_card("none")
    assert isinstance(list(told_to_stay.generate(work_item, lambda: False))[-1], WorkFailed)


def test_idle_models_leave_the_card_for_one_that_works(
    on_card: Callable[..., Engine], make_recipe: Make, make_work_item: Make, entries: dict[str, ModelEntry]
) -> None:
    card = on_card(memory_bytes=int(entries["sdxl"].size_bytes * 1.5))
    for name in ("sd1", "sdxl"):
        painted(card, make_work_item(make_recipe(name)))
    assert {held.name: held.place for held in card.describe().models} == {"sdxl": "device", "sd1": "memory"}


def values(bundle: Bundle, part: str = "unet") -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in bundle.onload(part).state_dict().items()}


def test_a_value_given_while_parts_stay_outlives_an_older_one_when_they_travel_again(
    entries: dict[str, ModelEntry],
) -> None:
    manager, name = ModelManager(CARD), "conv_in.weight"

    def loaded(mode: Offload, value: float | None = None) -> float:
        manager._offload = mode
        with torch.no_grad(), manager.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
            bundle.onload("unet")
            if value is not None:
                bundle.replace("unet", {name: torch.full_like(bundle.original("unet", name), value)})
            bundle.onload("vae"), bundle.onload("unet")
            present = bundle.present("unet", name)
            assert present is not None
            return float(present.flatten()[0])

    assert [loaded("encoders", 0.5), loaded("model"), loaded("none", 0.25), loaded("none"), loaded("model")] == [
        0.5,
        0.5,
        0.25,
        0.25,
        0.25,
    ]


@pytest.mark.usefixtures("small_groups")
def test_a_stream_that_got_no_memory_leaves_no_hook(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hooks(bundle: Bundle) -> int:
        return sum(len(module._forward_pre_hooks) for module in bundle.modules["unet"].modules())

    with lease(entries["sd1"], "group") as bundle:
        with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
            patch.setattr(
                group_offload.GroupOffload,
                "_copy_resident",
                lambda self: (_ for _ in ()).throw(torch.OutOfMemoryError("no")),
            )
            bundle.onload("unet")
        assert hooks(bundle) == 0
        bundle.onload("unet")
        assert hooks(bundle) > 4


@pytest.mark.usefixtures("small_groups")
def test_full_precision_is_the_same_in_groups(entries: dict[str, ModelEntry]) -> None:
    half, made = replace(CARD, dtype=torch.bfloat16), []
    rows, told = (
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)),
        Conditions(torch.ones(1, 77, 32), (1.0,)),
    )
    modes: tuple[Offload, ...] = ("none", "group")
    for mode in modes:
        with (
            ModelManager(half, offload=mode).lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle,
            torch.inference_mode(),
        ):
            predict = predict_with(bundle.onload, torch.bfloat16, in_float32=True)
            made += [predict(rows, torch.tensor(500), told, None) for _ in range(2)]
            assert {tensor.dtype for tensor in bundle.onload("unet").parameters()} == {torch.bfloat16}
    assert all(torch.equal(one, made[0]) for one in made) and made[0].dtype == torch.float32


@pytest.mark.parametrize("device", ["pointing", "copying"])
def test_replaced_tensors_come_back_to_the_bit(device: str, entries: dict[str, ModelEntry]) -> None:
    entry = entries["sd1"]
    manager = ModelManager(replace(CARD, copies_weights=device == "copying"))
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        before = values(bundle)
        name = "conv_in.weight"
        bundle.replace("unet", {name: bundle.original("unet", name) + 1})
        bundle.state_of(AdapterState).name = "ink"
        assert torch.equal(values(bundle)[name], before[name] + 1)
        assert torch.equal(bundle.original("unet", name), before[name])
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        assert bundle.state_of(AdapterState).name == "ink"
        assert torch.equal(values(bundle)[name], before[name] + 1)
        bundle.restore("unet", [name])
        assert all(torch.equal(tensor, before[key]) for key, tensor in values(bundle).items())
        bundle.replace("unet", {name: before[name] * 2})
    with manager.lease(entries["sd1_other"].ref, str(entries["sd1_other"].path)) as bundle:
        assert not bundle.state_of(AdapterState).name
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        assert all(torch.equal(tensor, before[key]) for key, tensor in values(bundle).items())


@pytest.mark.parametrize("mode", ["encoders", "model", "group"])
@pytest.mark.usefixtures("small_groups")
def test_replaced_tensors_travel_with_their_part(mode: Offload, entries: dict[str, ModelEntry]) -> None:
    rows, t, text = torch.ones(1, 4, 8, 8), torch.tensor(1), torch.ones(1, 77, 32)

    @torch.inference_mode()
    def ask(bundle: Bundle) -> Tensor:
        bundle.onload("text_encoder")
        return bundle.onload("unet")(rows, t, text, return_dict=False)[0]

    def change(bundle: Bundle) -> None:
        for name in ("conv_in.weight", "mid_block.resnets.0.conv1.weight", "conv_out.bias"):
            bundle.replace("unet", {name: bundle.original("unet", name) * 1.5})

    with lease(entries["sd1"], "none") as bundle:
        plain = ask(bundle)
        change(bundle)
        expected = ask(bundle)
        bundle.offloader.set_mode(mode)
        assert torch.equal(ask(bundle), expected)
    with lease(entries["sd1"], mode) as bundle:
        assert torch.equal(ask(bundle), plain)
        change(bundle)
        assert torch.equal(ask(bundle), expected)
        bundle.restore("unet", ["conv_in.weight", "mid_block.resnets.0.conv1.weight", "conv_out.bias"])
        assert torch.equal(ask(bundle), plain)


@pytest.mark.parametrize("mode", ["model", "group"])
@pytest.mark.usefixtures("small_groups")
def test_what_is_put_on_a_unet_goes_with_it(
    mode: str,
    on_card: Callable[..., Engine],
    make_recipe: Make,
    make_work_item: Make,
    engine: Engine,
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
) -> None:
    ref = {"sha256": sha256(PNG).hexdigest()}
    recipe = make_recipe(
        controls=({"model": control_entries["canny"].ref, "image": ref},),
        ip_adapters=({"model": control_entries["picture"].ref, "image": ref},),
    )
    paths = {path_key(found.ref): str(found.path) for found in (*entries.values(), *control_entries.values())}
    work_item = replace(make_work_item(recipe), images={ref["sha256"]: PNG}, model_paths=paths)
    assert painted(on_card(mode), work_item) == painted(engine, work_item)


@pytest.mark.usefixtures("small_groups")
def test_a_part_that_came_in_groups_can_stay_the_next_time(entries: dict[str, ModelEntry]) -> None:
    manager, entry = ModelManager(CARD, offload="group"), entries["sd1"]
    for mode in ("group", "none", "group"):
        manager._offload = mode
        with manager.lease(entry.ref, str(entry.path)) as bundle:
            bundle.onload("unet")
            assert ("unet in groups" in placed(bundle)) == (mode == "group")
            hooks = sum(len(module._forward_pre_hooks) for module in bundle.modules["unet"].modules())
            assert (hooks > 0) == (mode == "group")


def test_idle_models_leave_the_card_for_one_that_travels_too(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(replace(CARD, memory_bytes=int(entries["sdxl"].size_bytes * 0.9)))
    with manager.lease(entries["sd1"].ref, str(entries["sd1"].path)):
        pass
    with manager.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        assert bundle.offloader.mode != "none"
        assert [(held.name, held.place) for held in manager.resident()][1] == ("sd1", "memory")
