"""Leases, swaps, eviction, and files that are not what they say."""

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from catalog.models import ModelEntry, describe
from contract.errors import ModelProblem, OutOfMemory, StudioError
from contract.recipe import ModelRef
from engine.device.devices import Device
from engine.device.memory import Memory
from engine.models import manager as models_module
from engine.models.manager import ModelManager
from engine.weights.weight_buffer import WeightBuffer, lay_out, view
from tests.support import tiny

CPU = Device(torch.device("cpu"), "CPU")
# What CUDA does, on the CPU: fixed storage that blocks are copied into, another order, half precision.
COPYING = Device(torch.device("cpu"), "a card", torch.bfloat16, torch.float32, copies_weights=True, channels_last=True)


def names(manager: ModelManager) -> tuple[str, ...]:
    return tuple(held.name for held in manager.resident())


def weights(manager: ModelManager, entry: ModelEntry) -> dict[str, Tensor]:
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        return {
            f"{part}.{name}": tensor.clone()
            for part, module in bundle.modules.items()
            for name, tensor in module.state_dict().items()
        }


def on_disk(entry: ModelEntry) -> dict[str, Tensor]:
    return {
        f"{path.parent.name}.{name}": tensor
        for path in entry.path.glob("*/*.safetensors")
        for name, tensor in load_file(path).items()
    }


def changed(entry: ModelEntry, folder: Path, part: str, change: Callable[[dict[str, Tensor]], object]) -> ModelEntry:
    """A copy of a model with one part's tensors changed."""
    shutil.copytree(entry.path, folder)
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return describe(folder, folder.name)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_weights_are_those_of_the_files(kind: str, models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    ours, theirs = weights(models, entries[kind]), on_disk(entries[kind])
    assert len(ours) == len(theirs)
    for name, tensor in theirs.items():
        same = ours.get(name, ours.get(name.replace("encoder.", "encoder.text_model.", 1)))
        same = ours[name.replace("encoder_2.", "encoder_2.text_model.", 1)] if same is None else same
        assert torch.equal(same, tensor), name


@pytest.mark.parametrize("device", [CPU, COPYING], ids=["pointing", "copying"])
def test_swapping_there_and_back_is_bit_equal(device: Device, entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(device)
    first = weights(manager, entries["sd1"])
    other = weights(manager, entries["sd1_other"])
    again = weights(manager, entries["sd1"])
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


@pytest.mark.parametrize("device", [CPU, COPYING], ids=["pointing", "copying"])
def test_models_of_one_shape_share_their_modules(device: Device, entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(device)
    trees, storages = [], []
    for name in ("sd1", "sd1_other", "sd1"):
        with manager.lease(entries[name].ref, str(entries[name].path)) as bundle:
            trees.append(bundle.onload("unet"))
            storages.append(next(bundle.onload("unet").parameters()).data_ptr())
    assert trees[0] is trees[1] is trees[2]
    assert (storages[0] == storages[1]) == device.copies_weights


def test_copying_casts_and_keeps_the_order_that_was_asked_for(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(COPYING)
    with manager.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        weight = bundle.onload("unet").conv_in.weight
        assert weight.dtype == torch.bfloat16
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert bundle.onload("vae").dtype == torch.float32
        expected = on_disk(entries["sd1"])["unet.conv_in.weight"].to(torch.bfloat16)
        assert torch.equal(weight, expected)


def test_buffers_that_no_file_holds_are_real(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        for part, module in bundle.modules.items():
            for name, tensor in (*module.named_buffers(), *module.named_parameters()):
                assert tensor.device.type == "cpu", (part, name)
        positions = dict(bundle.onload("text_encoder").named_buffers())["embeddings.position_ids"]
        assert positions.tolist() == [list(range(77))]


def test_two_leases_of_one_shape_do_not_disturb_each_other(
    models: ModelManager, entries: dict[str, ModelEntry]
) -> None:
    one, other = entries["sd1"], entries["sd1_other"]
    with models.lease(one.ref, str(one.path)) as first:
        before = first.onload("unet").conv_in.weight.clone()
        with models.lease(other.ref, str(other.path)) as second:
            assert not torch.equal(second.onload("unet").conv_in.weight, before)
            assert torch.equal(first.onload("unet").conv_in.weight, before)


def test_budget_evicts_the_least_recently_used(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(CPU, budget_bytes=3_000_000)  # two of 1.3 MB
    for name in ("sd1", "sd1_other", "zero_snr"):
        weights(manager, entries[name])
    assert names(manager) == ("zero_snr", "sd1_other")
    weights(manager, entries["sd1_other"])
    weights(manager, entries["sd1"])
    assert names(manager) == ("sd1", "sd1_other")


def test_leased_model_is_never_evicted(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(CPU, budget_bytes=1)
    entry = entries["sd1"]
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        before = bundle.onload("unet").conv_in.weight.clone()
        weights(manager, entries["sd1_other"])
        manager.evict_all()
        assert "sd1" in names(manager)
        assert torch.equal(bundle.onload("unet").conv_in.weight, before)
    manager.evict_all()
    assert names(manager) == ()


@pytest.mark.parametrize("device", [CPU, COPYING], ids=["pointing", "copying"])
def test_evicted_weights_leave_memory(device: Device, entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(device, budget_bytes=1)
    entry = entries["sd1"]
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        unet = bundle.onload("unet")
        bytes_of_it = weakref.ref(next(iter(manager._models.values())).buffer.segments[0])
    weights(manager, entries["sd2"])
    gc.collect()
    assert bytes_of_it() is None
    assert sum(tensor.numel() for tensor in unet.parameters()) == 0


def test_many_swaps_keep_the_number_of_tensors(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    def count() -> int:
        gc.collect()
        return sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects())

    for name in ("sd1", "sd1_other"):
        weights(models, entries[name])
    before = count()
    for _ in range(10):
        for name in ("sd1", "sd1_other"):
            weights(models, entries[name])
    assert count() == before


def test_loading_reports_rising_fractions(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    entry = entries["sd1"]
    fractions = list(models.prepare(entry.ref, str(entry.path)))
    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert len(fractions) > 100
    assert list(models.prepare(entry.ref, str(entry.path))) == []


def test_load_that_is_given_up_leaves_nothing(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    entry = entries["sd1"]
    load = models.prepare(entry.ref, str(entry.path))
    for _ in range(20):
        next(load)
    load.close()
    assert names(models) == ()
    assert weights(models, entry)


def poison(value: float) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["conv_in.weight"][0, 0, 0, 0] = value

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(
    value: float, models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]
) -> None:
    entry = changed(entries["sd1"], tmp_path / "bad", "unet", poison(value))
    with pytest.raises(ModelProblem, match="unet/.*safetensors.*conv_in.weight.*NaN"):
        weights(models, entry)


def test_missing_tensor_is_named(models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]) -> None:
    entry = changed(entries["sd1"], tmp_path / "bad", "vae", lambda tensors: tensors.pop("decoder.conv_in.bias"))
    with pytest.raises(ModelProblem, match="vae/.* lacks .*decoder.conv_in.bias"):
        weights(models, entry)


def test_unexpected_tensor_is_named(models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]) -> None:
    entry = changed(
        entries["sd1"], tmp_path / "bad", "unet", lambda tensors: tensors.update({"lora.down": torch.zeros(2)})
    )
    with pytest.raises(ModelProblem, match="lora.down"):
        weights(models, entry)


def test_wrong_shape_is_named(models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]) -> None:
    entry = changed(
        entries["sd1"], tmp_path / "bad", "unet", lambda tensors: tensors.update({"conv_in.bias": torch.zeros(3)})
    )
    with pytest.raises(ModelProblem, match=r"conv_in.bias.* shape 3; .*16"):
        weights(models, entry)


def test_whole_numbers_are_not_weights(models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]) -> None:
    entry = changed(
        entries["sd1"],
        tmp_path / "bad",
        "unet",
        lambda tensors: tensors.update({"conv_in.bias": torch.zeros(16, dtype=torch.int32)}),
    )
    with pytest.raises(ModelProblem, match="I32"):
        weights(models, entry)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("unet", "{}"),
        ("unet", '{"block_out_channels": 3}'),
        ("unet", "[]"),
        ("vae", '{"down_block_types": ["Magic"]}'),
        ("text_encoder", '{"hidden_size": "wide"}'),
        ("text_encoder", '{"hidden_size": 3, "num_attention_heads": 2}'),
        ("scheduler", "nonsense"),
        ("unet", '{"norm_num_groups": 5}'),
    ],
)
def test_bad_configuration_is_a_model_problem(
    part: str, text: str, models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]
) -> None:
    entry = entries["sd1"]
    shutil.copytree(entry.path, tmp_path / "bad")
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    (tmp_path / "bad" / part / name).write_text(text)
    with pytest.raises(ModelProblem), models.lease(ModelRef(name="bad", family="sd1"), str(tmp_path / "bad")):
        pass


def test_failed_load_leaves_the_old_model_serving(
    models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]
) -> None:
    before = weights(models, entries["sd1"])
    bad = changed(entries["sd1_other"], tmp_path / "bad", "unet", poison(float("nan")))
    with pytest.raises(ModelProblem):
        weights(models, bad)
    assert names(models) == ("sd1",)
    after = weights(models, entries["sd1"])
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    "part", ["tokenizer/tokenizer.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json"]
)
def test_missing_file_is_a_model_problem(
    part: str, models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]
) -> None:
    shutil.copytree(entries["sd1"].path, tmp_path / "bad")
    (tmp_path / "bad" / part).unlink()
    with pytest.raises(ModelProblem), models.lease(ModelRef(name="bad", family="sd1"), str(tmp_path / "bad")):
        pass


def test_unknown_family_is_refused(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    with pytest.raises(ModelProblem, match="“sd9”"):
        with models.lease(ModelRef(name="x", family="sd9"), str(entries["sd1"].path)):
            pass


def test_no_room_is_said_before_reading(
    models: ModelManager, entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_module, "memory", lambda: Memory(10**9, 10))
    with pytest.raises(OutOfMemory, match="sd1 needs"):
        weights(models, entries["sd1"])


def test_old_spellings_are_read(models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]) -> None:
    """transformers 4 wrote text_model. and position ids; old diffusers had other names in the VAE's attention."""
    new_names = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

    def older(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            old = name
            for past, now in new_names.items():
                old = old.replace(f"attentions.0.{now}.", f"attentions.0.{past}.")
            tensors[old] = tensors.pop(name)

    def prefixed(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[f"text_model.{name}"] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]

    middle = changed(entries["sd1"], tmp_path / "middle", "vae", older)
    entry = changed(middle, tmp_path / "old", "text_encoder", prefixed)
    ours, plain = weights(models, entry), weights(models, entries["sd1"])
    assert all(torch.equal(tensor, plain[name]) for name, tensor in ours.items())


def test_half_precision_files_are_cast(models: ModelManager, tmp_path: Path, entries: dict[str, ModelEntry]) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].half()

    ours = weights(models, changed(entries["sd1"], tmp_path / "half", "unet", halve))
    plain = on_disk(entries["sd1"])
    assert torch.equal(ours["unet.conv_in.weight"], plain["unet.conv_in.weight"].half().float())


def test_layout_keeps_tensors_whole_and_apart() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Conv2d(3, 2, 3), torch.nn.Linear(7, 7))
    layout = lay_out({"unet": module}, {"unet": torch.float32}, channels_last=True, segment_limit=256)
    assert len(layout.segment_bytes) > 1
    buffer = WeightBuffer.empty(layout)
    for number, spec in enumerate(layout.specs):
        assert spec.offset % 64 == 0
        view(buffer.segments, spec).fill_(number)
    for number, spec in enumerate(layout.specs):
        tensor = view(buffer.segments, spec)
        assert tensor.shape == spec.shape
        assert (tensor == number).all()


def test_every_problem_has_words(models: ModelManager, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({}))
    with pytest.raises(StudioError) as caught, models.lease(ModelRef(name="empty", family="sdxl"), str(tmp_path)):
        pass
    assert caught.value.hint
    assert str(tmp_path) not in caught.value.message
