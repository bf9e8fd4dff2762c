"""Pickles become safetensors in a process of their own; what is more than weights is refused."""

import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from catalog.detect.sniff import sniff
from catalog.files.headers import read_header
from contract.errors import ModelProblem
from engine.convert import pickles
from engine.convert.pickles import convert, weights_of


class Evil:
    """What an attacker would send."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


def saved(file: Path, data: object, **how: object) -> Path:
    torch.save(data, file, **how)
    return file


def test_a_checkpoint_is_converted_without_its_optimizer(tmp_path: Path) -> None:
    shared = torch.randn(4, 3)
    weights = {
        "model.diffusion_model.out.2.weight": shared,
        "first_stage_model.x": shared.T.half(),
        "model_ema.decay": torch.tensor(0.9),
        "steps": torch.arange(3),
    }
    source = saved(
        tmp_path / "old.ckpt",
        {"state_dict": OrderedDict(weights), "global_step": 7, "optimizer_states": [{"state": {0: torch.ones(2)}}]},
    )
    heard: list[tuple[str, float | None]] = []
    target = tmp_path / "new.safetensors.part"
    left_out = convert(source, target, lambda words, fraction: heard.append((words, fraction)))
    assert left_out == "Left out: optimizer_states, the averaged copy (EMA)."
    found = load_file(target)
    assert found.keys() == weights.keys() - {"model_ema.decay"}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())
    with safe_open(target, "pt") as opened:
        assert opened.metadata() == {"global_step": "7", "converted_from": "old.ckpt"}
    assert heard[0] == (pickles.READING, None)
    assert heard[-1] == (pickles.WRITING, 1.0)


def test_an_ip_adapter_of_two_tables_becomes_one_file(tmp_path: Path) -> None:
    """As its authors publish it."""
    names = [f"{2 * number + 1}.{name}.weight" for number in range(16) for name in ("to_k_ip", "to_v_ip")]
    tables = {
        "image_proj": {"proj.weight": torch.randn(8, 1024)},
        "ip_adapter": {name: torch.randn(2, 768) for name in names},
    }
    convert(saved(tmp_path / "ip.bin", tables), tmp_path / "ip.safetensors", lambda words, fraction: None)
    found = sniff(read_header(tmp_path / "ip.safetensors"), {})
    assert (found.kind, found.family, found.problem) == ("ip_adapter", "sd1", "")
    assert torch.equal(
        load_file(tmp_path / "ip.safetensors")["ip_adapter.31.to_v_ip.weight"], tables["ip_adapter"][names[-1]]
    )


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_could_run_code_is_refused_and_does_not_run(is_zip: bool, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    source = saved(
        tmp_path / "evil.ckpt",
        {"state_dict": {"x": torch.ones(1)}, "callbacks": Evil(marker)},
        _use_new_zipfile_serialization=is_zip,
    )
    with pytest.raises(ModelProblem) as caught:
        convert(source, tmp_path / "new.safetensors", lambda words, fraction: None)
    assert "evil.ckpt names “io.open”, which could run code" in caught.value.message
    assert not marker.exists()


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "bomb.pt"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("archive/data.pkl", pickle.dumps({}))
        package.writestr("archive/data/0", bytes(50_000_000))
    with pytest.raises(ModelProblem) as caught:
        convert(source, tmp_path / "new.safetensors", lambda words, fraction: None)
    assert "bomb.pt is" in caught.value.message
    assert "would unpack to 50,000," in caught.value.message
    assert not (tmp_path / "new.safetensors").exists()


def test_tensors_larger_than_what_is_stored_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "wide.pt", {"x": torch.ones(1).expand(2**34)})
    with pytest.raises(ModelProblem, match="describes larger tensors than it holds"):
        convert(source, tmp_path / "new.safetensors", lambda words, fraction: None)


def test_the_child_can_reach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock holds for code that got in all the same: here it is let in on purpose."""
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    (tmp_path / "intruder.py").write_text(
        "import os, socket, subprocess, sys\nfrom pathlib import Path\nfrom engine.convert import pickles\n"
        "target = Path(sys.argv[1]); source = target.with_suffix('.in'); source.write_bytes(b'x')\n"
        "pickles.lock_down(source, target)\n"
        "def tried(act):\n    try:\n        act()\n    except PermissionError:\n        return 'refused'\n    return 'done'\n"
        "tries = [lambda: socket.create_connection(('127.0.0.1', 9)), lambda: subprocess.run(['true']),\n"
        "         lambda: os.system('true'), lambda: open(str(target) + '2', 'w'), lambda: os.remove(source),\n"
        "         lambda: open(target, 'wb').close()]\n"
        "print([tried(act) for act in tries])\n"
    )
    said = subprocess.run(
        [sys.executable, str(tmp_path / "intruder.py"), str(tmp_path / "out")],
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(pickles.ROOT)},
    ).stdout
    assert said.strip() == str(["refused"] * 5 + ["done"])


def test_what_is_no_pickle_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.ckpt").write_text("<html>")
    with pytest.raises(ModelProblem, match=r"page\.ckpt"):
        weights_of(tmp_path / "page.ckpt")


def test_an_embedding_becomes_the_tensor_that_programs_look_for(tmp_path: Path) -> None:
    vectors = torch.randn(2, 768)
    source = saved(
        tmp_path / "word.pt",
        {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": vectors},
            "name": "word",
            "step": 500,
            "sd_checkpoint": None,
        },
    )
    weights, notes, _ = weights_of(source)
    assert (list(weights), torch.equal(weights["emb_params"], vectors)) == (["emb_params"], True)
    assert (notes["name"], notes["step"]) == ("word", "500")


def test_old_trainers_parameters_are_found_in_their_table(tmp_path: Path) -> None:
    table = torch.nn.ParameterDict()
    source = saved(tmp_path / "word.pt", {"string_to_param": table, "name": "word"})
    # As torch before 2.0 pickled it: a table of parameters in the state.
    table.__dict__["_parameters"] = {"*": torch.nn.Parameter(torch.ones(1, 8))}
    saved(source, {"string_to_param": table, "name": "word"})
    weights, _, _ = weights_of(source)
    assert weights["emb_params"].shape == (1, 8)


def test_a_textual_inversion_of_diffusers_is_one_too(tmp_path: Path) -> None:
    weights, _, _ = weights_of(saved(tmp_path / "learned.bin", {"<cat>": torch.randn(768)}))
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {"emb_params": (1, 768)}


def test_a_hypernetwork_keeps_how_it_is_built(tmp_path: Path) -> None:
    layers = {"linear.0.weight": torch.ones(16, 8), "linear.0.bias": torch.ones(16)}
    source = saved(
        tmp_path / "net.pt",
        {
            8: (layers, layers),
            "layer_structure": [1, 2, 1],
            "name": "net",
            "activation_func": "relu",
            "is_layer_norm": False,
        },
    )
    weights, notes, left_out = weights_of(source)
    assert sorted(weights) == [f"8.{side}.linear.0.{leaf}" for side in (0, 1) for leaf in ("bias", "weight")]
    assert (notes["layer_structure"], notes["activation_func"], left_out) == ("[1, 2, 1]", "relu", set())


def test_the_oldest_hypernetworks_get_the_names_of_later_ones(tmp_path: Path) -> None:
    layers = {"linear1.weight": torch.ones(16, 8), "linear2.bias": torch.ones(8)}
    weights, _, _ = weights_of(saved(tmp_path / "net.pt", {8: (layers, layers)}))
    assert sorted(weights) == [f"8.{side}.linear.{leaf}" for side in (0, 1) for leaf in ("0.weight", "1.bias")]


@pytest.mark.parametrize("wrapping", ["params_ema", "params", "state_dict", None])
def test_an_upscaler_is_taken_out_of_its_wrapping(wrapping: str | None, tmp_path: Path) -> None:
    inner = {"conv_first.weight": torch.ones(4, 3, 3, 3)}
    weights, _, _ = weights_of(saved(tmp_path / "x4.pth", {wrapping: inner} if wrapping else inner))
    assert list(weights) == ["conv_first.weight"]
