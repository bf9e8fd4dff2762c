"""Embeddings in prompts: equal to encoders whose vocabulary was extended by their vectors, as they were trained."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.prompt import Piece
from contract.recipe import ModelRef, Recipe
from engine.adapters.prompt_chunks import split_in_chunks
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.adapters.textual_inversion import TextualInversions, Vector, textual_inversions_of
from engine.models.manager import ModelManager
from tests.support.tiny import make_tokenizer

TOKENIZER = make_tokenizer()
VECTORS = 3


def table(width: int, seed: int = 0, count: int = VECTORS) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.3


def ref(name: str = "neg/easy-bad") -> ModelRef:
    return ModelRef(kind="embedding", name=name, family="sd1", fingerprint=name)


def of_tables(**tables: int) -> TextualInversions:
    """An embedding of so many vectors, by name."""
    return TextualInversions(
        {name: name for name in tables}, {name: (table(8, count=count),) for name, count in tables.items()}
    )


def spelled(vocabulary: TextualInversions, text: str, room: int = 75) -> list[list[str]]:
    chunks = split_in_chunks([Piece(text)], TOKENIZER, room, vocabulary).chunks
    return [
        [f"{token.key}{token.row}" if isinstance(token, Vector) else "." for token in chunk.tokens] for chunk in chunks
    ]


def test_a_name_becomes_as_many_tokens_as_it_has_vectors() -> None:
    words = of_tables(**{"style": 2, "easy-bad": 1})
    assert spelled(words, "cat Style dog") == [[".", "style0", "style1", "."]]
    assert spelled(words, "embedding:style,easy-bad") == [["style0", "style1", ".", "easy-bad0"]]
    assert spelled(words, "stylish") == spelled(TextualInversions(), "stylish")


def test_vectors_count_and_are_not_torn() -> None:
    words = of_tables(style=4)
    assert [len(chunk) for chunk in spelled(words, "cat " * 73 + "style dog")] == [73, 5]
    assert [len(chunk) for chunk in spelled(words, "cat " * 71 + "style dog")] == [75, 1]
    assert [len(chunk) for chunk in spelled(of_tables(long=80), "long")] == [75, 5]


def test_weights_hold_for_vectors_too() -> None:
    (chunk,) = split_in_chunks([Piece("cat "), Piece("style", 1.3)], TOKENIZER, 75, of_tables(style=2)).chunks
    assert chunk.weights == (1.0, 1.3, 1.3)


def upscaled(kind: type, folder: Path, vectors: Tensor) -> tuple[torch.nn.Module, list[int]]:
    """A text encoder that knows the vectors as further tokens, and their numbers."""
    encoder = kind.from_pretrained(folder).eval()
    first = encoder.config.vocab_size
    encoder.resize_token_embeddings(first + len(vectors), mean_resizing=False)
    encoder.get_input_embeddings().weight.data[first:] = vectors
    return encoder, list(range(first, first + len(vectors)))


def ids(tokenizer: object, numbers: list[int]) -> Tensor:
    cat, dog = tokenizer(["cat", "dog"], add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    row = [tokenizer.bos_token_id, *cat, *numbers, *dog, tokenizer.eos_token_id]  # type: ignore[attr-defined]
    return torch.tensor([row + [tokenizer.pad_token_id] * (77 - len(row))])  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_the_result_equals_encoders_that_learned_the_tokens(
    kind: str, entries: dict[str, ModelEntry], models: ModelManager, make_recipe: Callable[..., Recipe]
) -> None:
    folder = entries[kind].path
    recipe = make_recipe(kind, prompt="cat easy-bad dog", guidance=1.0)
    with models.lease(entries[kind].ref, str(folder)) as bundle, torch.no_grad():
        width = 1024 if kind == "sd2" else 32
        tables = (table(16, 1), table(16, 2)) if kind == "sdxl" else (table(width, 1),)
        files = {"clip_l": tables[0], "clip_g": tables[-1]} if kind == "sdxl" else {"emb_params": tables[0]}
        ours = encode_prompts(recipe, bundle, EmbeddingCache(), textual_inversions_of({ref(): files}, bundle)).at(0)
        first, numbers = upscaled(CLIPTextModel, folder / "text_encoder", tables[0])
        states = first(ids(bundle.tokenizers[0], numbers), output_hidden_states=True).hidden_states
        if kind == "sdxl":
            second, others = upscaled(CLIPTextModelWithProjection, folder / "text_encoder_2", tables[1])
            more = second(ids(bundle.tokenizers[1], others), output_hidden_states=True)
            wanted = torch.cat([states[-2], more.hidden_states[-2]], dim=-1)
            assert ours.added is not None
            torch.testing.assert_close(ours.added["text_embeds"], more.text_embeds, rtol=0, atol=1e-6)
        else:
            wanted = first.final_layer_norm(states[-1])
        torch.testing.assert_close(ours.prompt_embeds, wanted, rtol=0, atol=1e-6)
        plain = encode_prompts(recipe, bundle, EmbeddingCache()).at(0)
        assert plain.prompt_embeds.shape != ours.prompt_embeds.shape or not torch.allclose(
            plain.prompt_embeds, ours.prompt_embeds, atol=1e-3
        )


def test_the_cache_tells_files_of_one_name_apart_and_keeps_the_encoder_clean(
    entries: dict[str, ModelEntry], models: ModelManager, make_recipe: Callable[..., Recipe]
) -> None:
    recipe, cache = make_recipe(prompt="cat style", guidance=1.0), EmbeddingCache()
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        plain = encode_prompts(recipe, bundle, cache).at(0).prompt_embeds
        found = []
        for number in (1, 2, 1):
            words = textual_inversions_of(
                {ref("style").model_copy(update={"fingerprint": str(number)}): {"*": table(32, number)}}, bundle
            )
            found.append(encode_prompts(recipe, bundle, cache, words).at(0).prompt_embeds)
        assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
        assert torch.equal(encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds, plain)
        assert not bundle.onload("text_encoder").get_input_embeddings()._forward_hooks


@pytest.mark.parametrize(
    "tensors",
    [
        {"emb_params": table(32)},
        {"*": table(32)},
        {"<cat-toy>": table(32)[0]},
        {"emb_params": table(32), "step": torch.ones(1)},
    ],
)
def test_every_form_of_file_is_read(
    entries: dict[str, ModelEntry], models: ModelManager, tensors: dict[str, Tensor]
) -> None:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        vocabulary = textual_inversions_of({ref(): tensors}, bundle)
        assert vocabulary.tables["neg/easy-bad"][0].shape[1] == 32
        assert set(vocabulary.keys) == {"neg/easy-bad", "easy-bad"}


@pytest.mark.parametrize(
    ("kind", "tensors", "words"),
    [
        ("sd1", {"emb_params": table(1024)}, "Embedding “style” is 1024 wide; “sd1” takes 32."),
        ("sd1", {"clip_l": table(16), "clip_g": table(16)}, "Embedding “style” is 16 and 16 wide; “sd1” takes 32."),
        ("sdxl", {"emb_params": table(32)}, "Embedding “style” is 32 wide; “sdxl” takes 16 and 16."),
        ("sdxl", {"clip_l": table(16), "clip_g": table(16, count=2)}, "Embedding “style” is 16 and 16 wide"),
        ("sd1", {"a": table(32), "b": table(32)}, "holds no table of vectors that is known"),
    ],
)
def test_ck48_other_widths_are_refused_by_name(
    kind: str, tensors: dict[str, Tensor], words: str, entries: dict[str, ModelEntry], models: ModelManager
) -> None:
    with models.lease(entries[kind].ref, str(entries[kind].path)) as bundle, pytest.raises(InvalidRecipe) as refused:
        textual_inversions_of({ref("style"): tensors}, bundle)
    assert words in refused.value.message and refused.value.code == "invalid_embeddings" and refused.value.hint


def test_a_second_prompt_has_the_vectors_of_the_second_encoder(
    entries: dict[str, ModelEntry], models: ModelManager, make_recipe: Callable[..., Recipe]
) -> None:
    files = {"clip_l": table(16, 1), "clip_g": table(16, 2)}
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        words = textual_inversions_of({ref(): files}, bundle)

        def encode(**prompts: str) -> Tensor:
            recipe = make_recipe("sdxl", guidance=1.0, **prompts)
            return encode_prompts(recipe, bundle, EmbeddingCache(), words).at(0).prompt_embeds

        both = encode(prompt="cat", prompt_2="cat easy-bad dog")
        torch.testing.assert_close(both[..., :16], encode(prompt="cat")[..., :16])
        torch.testing.assert_close(both[..., 16:], encode(prompt="cat easy-bad dog")[..., 16:])
