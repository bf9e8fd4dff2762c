"""Files whose tensors are called as only some people call them: any word is a name, and all spellings are vectors."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from catalog.detect.embedding_names import find_names, names_in, tables_of
from catalog.models import ModelEntry, describe
from contract.errors import InvalidRecipe
from contract.parts import LoraUse
from contract.recipe import ModelRef, Recipe
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.adapters.textual_inversion import textual_inversions_of
from engine.convert.baking import read_lora
from engine.models.manager import ModelManager

WORDS = (
    "train",
    "eval",
    "forward",
    "parameters",
    "modules",
    "state_dict",
    "_parameters",
    "__class__",
    "T_destination",
    "training",
    "weight",
    "sks.",
    "<ink>",
    "a.b.c",
    "",
    "half",
    "to",
    "ink wash",
    "déjà",
    "0",
)


def ref(name: str, kind: str = "embedding") -> ModelRef:
    return ModelRef.model_validate({"kind": kind, "name": name or "none", "family": "sd1", "fingerprint": f"{name}!"})


@pytest.mark.parametrize("word", WORDS)
def test_a_token_of_any_name_is_read(tmp_path: Path, models: ModelManager, word: str) -> None:
    path = tmp_path / "one.safetensors"
    save_file({word: torch.arange(6.0).view(2, 3)}, path)
    one = ref(f"{word} file").model_copy(update={"fingerprint": ""})
    with models.lease(one, str(path)) as bundle:
        (module,) = bundle.modules.values()
        assert {name: tensor.tolist() for name, tensor in module.state_dict().items()} == {word: [[0, 1, 2], [3, 4, 5]]}


def test_names_within_names_are_read_too(tmp_path: Path, models: ModelManager) -> None:
    path = tmp_path / "one.safetensors"
    tensors = {"a": torch.ones(1), "a.b": torch.ones(2), "a.b.train": torch.ones(3), "train.a": torch.ones(4)}
    save_file(tensors, path)
    with models.lease(ref("nested", "lora").model_copy(update={"fingerprint": ""}), str(path)) as bundle:
        (module,) = bundle.modules.values()
        assert {name: len(tensor) for name, tensor in module.state_dict().items()} == {
            "a": 1,
            "a.b": 2,
            "a.b.train": 3,
            "train.a": 4,
        }
    holder = read_lora(LoraUse(model=ref("nested", "lora")), path)
    assert {name: len(tensor) for name, tensor in holder.state_dict().items()} == {
        "a": 1,
        "a.b": 2,
        "a.b.train": 3,
        "train.a": 4,
    }


@pytest.mark.parametrize(
    ("names", "tables"),
    [
        (("emb_params",), ("emb_params",)),
        (("clip_l", "clip_g"), ("clip_l", "clip_g")),
        (("clip_g", "clip_l"), ("clip_l", "clip_g")),
        (("text_encoders_1", "text_encoders_0"), ("text_encoders_0", "text_encoders_1")),
        (("clip_l",), ("clip_l",)),
        (("clip_l", "clip_g", "clip_l_out", "clip_g_out"), ("clip_l", "clip_g")),
        (("train",), ("train",)),
        (("a", "b"), ()),
        ((), ()),
        (("string_to_param.*", "string_to_token.*"), ("string_to_param.*",)),
        (("emb_params", "note"), ("emb_params",)),
    ],
)
def test_the_tables_of_a_file_are_known_by_their_names(names: tuple[str, ...], tables: tuple[str, ...]) -> None:
    assert tables_of(names) == tables


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_two_tables_serve_two_text_encoders(
    entries: dict[str, ModelEntry], models: ModelManager, keys: tuple[str, str]
) -> None:
    xl = entries["sdxl"]
    with models.lease(xl.ref, str(xl.path)) as bundle:
        widths = [
            bundle.modules[name].get_input_embeddings().embedding_dim for name in ("text_encoder", "text_encoder_2")
        ]
        tensors = {key: torch.ones(2, width) for key, width in zip(keys, widths, strict=True)}
        found = textual_inversions_of({ref("ink"): dict(reversed(tensors.items()))}, bundle)
        assert [table.shape[1] for table in found.tables["ink!"]] == widths
        with pytest.raises(InvalidRecipe, match="wide"):
            textual_inversions_of({ref("ink"): {keys[0]: torch.ones(2, widths[0])}}, bundle)


@pytest.mark.parametrize("suffix", ["", ".pt", ".safetensors", ".bin", ".pth", ".sft", ".PT"])
@pytest.mark.parametrize("name", ["ink", "style/ink", "ink.v2"])
def test_comfyuis_way_may_have_the_files_suffix(name: str, suffix: str) -> None:
    text = f"a hill, embedding:{name}{suffix}, (embedding:{name}{suffix}:1.2) by night"
    assert names_in(text, ["ink", "style/ink", "ink.v2"]) == (name,)
    rest, end = "", 0
    for spot in find_names(text, ["ink", "style/ink", "ink.v2"]):
        rest, end = rest + text[end : spot.begin], spot.end
    assert rest + text[end:] == "a hill, , (:1.2) by night"


def test_a_suffix_belongs_to_the_name_in_that_way_only() -> None:
    spots = [(spot.begin, spot.end) for spot in find_names("ink.pt embedding:ink.ptx embedding:inkwell", ["ink"])]
    assert spots == [(0, 3), (7, 20)]


@pytest.mark.parametrize(("told", "is_zero"), [(None, True), (True, True), (False, False), ("no", True), (0, True)])
def test_an_empty_negative_prompt_is_zeros_unless_the_model_says_otherwise(
    entries: dict[str, ModelEntry], models: ModelManager, tmp_path: Path, told: object, is_zero: bool
) -> None:

    folder = tmp_path / "xl"
    shutil.copytree(entries["sdxl"].path, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index.pop("force_zeros_for_empty_prompt", None)
    (folder / "model_index.json").write_text(
        json.dumps(index if told is None else {**index, "force_zeros_for_empty_prompt": told})
    )
    entry = describe(folder, f"xl-{told}")
    one = entry.ref.model_copy(update={"fingerprint": ""})
    recipe = Recipe.model_validate(
        {
            "prompt": "a hill",
            "model": one,
            "sampler": "euler",
            "schedule": "uniform",
            "steps": 2,
            "guidance": 5.0,
            "width": 64,
            "height": 64,
            "seed": 1,
        }
    )
    with models.lease(one, str(folder)) as bundle:
        conditions = encode_prompts(recipe, bundle, EmbeddingCache()).at(0)
        assert bool((conditions.prompt_embeds[0] == 0).all()) is is_zero
        named = encode_prompts(replace_prompt(recipe), bundle, EmbeddingCache()).at(0)
        assert not (named.prompt_embeds[0] == 0).all()


def replace_prompt(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"negative_prompt": "dog"})
