"""From pieces to embeddings."""

from collections.abc import Callable
from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.prompt import Piece
from contract.recipe import Recipe
from contract.values import EMPHASES
from engine.adapters.prompt_chunks import MAX_CHUNKS, Chunk, split_in_chunks
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts, weigh_prompt_embeds
from engine.families.family import Encoded
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from tests.support.tiny import make_tokenizer

TOKENIZER = make_tokenizer()
CAT = TOKENIZER("cat", add_special_tokens=False)["input_ids"][0]
COMMA = TOKENIZER(",", add_special_tokens=False)["input_ids"][0]


class Counter:
    """Counts calls of a bundle's text encoders."""

    def __init__(self, bundle: Bundle) -> None:
        self.calls = 0
        self._hooks = [
            module.register_forward_pre_hook(self._count)
            for name, module in bundle.modules.items()
            if name.startswith("text_encoder")
        ]

    def _count(self, *_: object) -> None:
        self.calls += 1

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


@pytest.mark.parametrize(("words", "chunks"), [(1, 1), (75, 1), (76, 2), (77, 2), (150, 2), (151, 3)])
def test_chunks_hold_exactly_75_tokens(words: int, chunks: int) -> None:
    split = split_in_chunks([Piece("cat " * words)], TOKENIZER, 75)
    assert len(split.chunks) == chunks
    assert sum(len(chunk.tokens) for chunk in split.chunks) == words
    assert split.truncated_words == 0


def test_small_encoders_get_small_chunks() -> None:
    split = split_in_chunks([Piece("cat " * 31)], TOKENIZER, 30)
    assert [len(chunk.tokens) for chunk in split.chunks] == [30, 1]


def test_words_behind_the_last_chunk_are_counted() -> None:
    split = split_in_chunks([Piece("cat " * 20_000)], TOKENIZER, 75)
    assert len(split.chunks) == MAX_CHUNKS
    assert split.truncated_words == 20_000 - 75 * MAX_CHUNKS


def test_break_begins_a_new_chunk() -> None:
    split = split_in_chunks([Piece("cat"), None, Piece("dog", 1.2)], TOKENIZER, 75)
    assert [chunk.tokens for chunk in split.chunks] == [(CAT,), (CAT + 2,)] or len(split.chunks) == 2
    assert split.chunks[1].weights == (1.2,)


def test_a_full_chunk_ends_at_a_near_comma() -> None:
    split = split_in_chunks([Piece("cat " * 69 + ", " + "dog " * 10)], TOKENIZER, 75)
    assert len(split.chunks[0].tokens) == 70
    assert split.chunks[0].tokens[-1] == COMMA
    assert len(split.chunks[1].tokens) == 10


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("cat " * 55 + ", " + "dog " * 30, [56, 30]),  # 20 tokens from the end: within reach
        ("cat " * 54 + ", " + "dog " * 30, [75, 10]),  # 21: beyond
        ("cat " * 74 + ", dog", [75, 1]),
        ("cat " * 75 + ", dog", [75, 2]),  # a comma that finds its chunk full begins the next
        ("cat " * 60 + ", " + "cat " * 14 + ", dog", [75, 2]),
        ("cat," * 37 + "cat", [75]),
        ("cat," * 38, [75, 1]),
        ("cat," * 38 + "dog", [75, 2]),
        ("cat " * 60 + ", " + "cat " * 13 + "xyz", [61, 16]),  # the word that does not fit goes along
        ("cat " * 73 + "xyz, dog", [73, 5]),
        ("cat " * 56 + ", " + "x" * 70, [57, 70]),  # what goes along and the word don't fit together
        ("cat " * 56 + ", cat " + "x" * 75, [57, 1, 75]),
        ("cat,dog " * 26, [74, 4]),
        ("cat " * 70 + ",,dog,dog,dog", [75, 2]),
    ],
)
def test_chunks_break_where_a1111_breaks_them_and_tear_no_word(text: str, sizes: list[int]) -> None:
    split = split_in_chunks([Piece(text)], TOKENIZER, 75)
    assert [len(chunk.tokens) for chunk in split.chunks] == sizes


@pytest.mark.parametrize("spaces", [",", ", ", " ,", " , "])
@pytest.mark.parametrize("tag", ["xyz", "cat", "a_cat", "red-dog", "wxyz"])
def test_tags_joined_by_commas_are_never_torn(tag: str, spaces: str) -> None:
    whole = TOKENIZER(tag, add_special_tokens=False)["input_ids"]
    for count in (32, 75, 76):
        split = split_in_chunks([Piece(spaces.join([tag] * count))], TOKENIZER, 75)
        for chunk in split.chunks:
            tags = [list(run) for is_comma, run in groupby(chunk.tokens, lambda token: token == COMMA) if not is_comma]
            assert all(read == whole for read in tags)
        assert sum(len(chunk.tokens) for chunk in split.chunks) == count * len(whole) + count - 1


def test_the_reach_of_commas_shrinks_with_the_chunk() -> None:
    assert [
        len(chunk.tokens) for chunk in split_in_chunks([Piece("cat " * 22 + ", " + "dog " * 9)], TOKENIZER, 30).chunks
    ] == [23, 9]
    assert [
        len(chunk.tokens) for chunk in split_in_chunks([Piece("cat " * 21 + ", " + "dog " * 9)], TOKENIZER, 30).chunks
    ] == [30, 1]


def test_words_are_not_torn() -> None:
    split = split_in_chunks([Piece("cat " * 73 + "xyz")], TOKENIZER, 75)
    assert [len(chunk.tokens) for chunk in split.chunks] == [73, 3]


def test_end_of_text_written_in_a_prompt_is_not_the_end() -> None:
    split = split_in_chunks([Piece("cat <|endoftext|> dog <|startoftext|>")], TOKENIZER, 75)
    assert TOKENIZER.eos_token_id not in split.chunks[0].tokens
    assert TOKENIZER.bos_token_id not in split.chunks[0].tokens


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["cat", "dog,", "xyz", "日本", "é", "a" * 200]), max_size=120), st.integers(6, 75))
def test_no_token_is_lost_or_doubled(words: list[str], room: int) -> None:
    text = " ".join(words)
    split = split_in_chunks([Piece(text)], TOKENIZER, room)
    read = [token for chunk in split.chunks for token in chunk.tokens]
    whole = TOKENIZER(text, add_special_tokens=False)["input_ids"] if text else []
    assert read == whole[: len(read)]
    assert split.truncated_words > 0 or len(read) == len(whole)
    assert all(len(chunk.tokens) <= room for chunk in split.chunks)


def test_weights_scale_tokens_and_keep_the_mean() -> None:
    context = torch.randn(1, 77, 8) + 0.5
    weighted = weigh_prompt_embeds(context, Chunk((1, 2), (1.0, 1.5)))
    assert weighted.mean() == pytest.approx(float(context.mean()), rel=1e-4)
    ratio = weighted[0, 2] / weighted[0, 3] / (context[0, 2] / context[0, 3])
    assert torch.allclose(ratio, torch.full_like(ratio, 1.5), rtol=1e-4)
    assert weigh_prompt_embeds(context, Chunk((1, 2), (1.0, 1.0))) is context


def test_a_mean_of_rounding_noise_is_not_restored() -> None:
    context = torch.nn.functional.layer_norm(torch.randn(1, 77, 64), (64,))
    weighted = weigh_prompt_embeds(context, Chunk((1,), (1.5,)))
    assert torch.allclose(weighted[0, 1], context[0, 1] * 1.5)
    assert torch.equal(weighted[0, 2:], context[0, 2:])


def test_a_prompt_weighed_as_a_whole_is_what_it_was() -> None:
    context = torch.randn(1, 77, 8) * 0.1 + 0.5
    whole = weigh_prompt_embeds(context, Chunk((1,) * 75, (5.0,) * 75))
    assert whole.mean() == pytest.approx(float(context.mean()), rel=1e-4)


@pytest.mark.parametrize("weight", [1.5, 0.5, 0.0, -1.0, 12.0])
def test_sdxl_weighs_each_encoder_by_itself(
    weight: float, models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe("sdxl", prompt=f"cat (dog:{weight:g}) sea", guidance=1.0)
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        told = encode_prompts(recipe, bundle, EmbeddingCache()).at(0)
        plain = encode_prompts(make_recipe("sdxl", prompt="cat dog sea", guidance=1.0), bundle, EmbeddingCache()).at(0)
    weights = torch.ones(1, 77, 1)
    weights[0, 2] = weight
    for place in (slice(0, 16), slice(16, 32)):  # begin, cat, dog
        before = plain.prompt_embeds[:, :, place]
        after = before * weights
        if before.mean().abs() > 0.01 * before.std() and after.mean().abs() > 0.01 * after.std():
            after = after * (before.mean() / after.mean())
        assert torch.allclose(told.prompt_embeds[:, :, place], after, atol=1e-6)
    assert told.added is not None and plain.added is not None
    assert torch.equal(told.added["text_embeds"], plain.added["text_embeds"])  # what is pooled is not weighed


def test_a_hires_pass_goes_on_counting(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe("sd1", prompt="[cat:dog:0.5] [sea:sun:1.5]", steps=4, guidance=1.0)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        first = encode_prompts(recipe, bundle, EmbeddingCache())
        second = encode_prompts(recipe, bundle, EmbeddingCache(), hires_steps=2, after=4)
        texts = {
            text: encode_prompts(make_recipe("sd1", prompt=text, guidance=1.0), bundle, EmbeddingCache())
            .at(0)
            .prompt_embeds
            for text in ("cat sea", "dog sea", "dog sun")
        }
    for told, words in ((first, ["cat sea", "cat sea", "dog sea", "dog sea"]), (second, ["dog sea", "dog sun"])):
        for step, text in enumerate(words):
            assert torch.equal(told.at(step).prompt_embeds, texts[text])


def test_repeated_prompt_calls_no_encoder(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    cache = EmbeddingCache()
    for kind, calls in (("sd1", 2), ("sdxl", 4)):
        with models.lease(entries[kind].ref, str(entries[kind].path)) as bundle:
            counter = Counter(bundle)
            first = encode_prompts(make_recipe(kind), bundle, cache).at(0)
            assert counter.calls == calls
            again = encode_prompts(make_recipe(kind, seed=3, guidance=2.0), bundle, cache).at(0)
            assert counter.calls == calls
            assert torch.equal(first.prompt_embeds, again.prompt_embeds)
            encode_prompts(make_recipe(kind, clip_skip=2), bundle, cache)
            assert counter.calls == 2 * calls
            counter.remove()


def test_another_checkpoint_is_another_encoder(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    cache = EmbeddingCache()
    contexts = []
    for name in ("sd1", "sd1_other"):
        with models.lease(entries[name].ref, str(entries[name].path)) as bundle:
            contexts.append(encode_prompts(make_recipe(name), bundle, cache).at(0).prompt_embeds)
    assert not torch.equal(*contexts)


def test_cache_forgets_the_oldest() -> None:
    cache = EmbeddingCache(limit_bytes=3 * 40)
    for number in range(5):
        cache.put((number,), Encoded(torch.zeros(1, 10)))
    assert [cache.get((number,)) is not None for number in range(5)] == [False, False, True, True, True]


def test_rows_are_equally_long(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        told = encode_prompts(make_recipe("sdxl", prompt="cat " * 100, negative_prompt="dog"), bundle, EmbeddingCache())
        conditions = told.at(0)
        assert conditions.prompt_embeds.shape == (2, 2 * 77, 32)
        assert conditions.added is not None
        assert conditions.added["text_embeds"].shape == (2, 16)
        assert conditions.added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


def test_conditions_change_with_the_step(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        counter = Counter(bundle)
        told = encode_prompts(make_recipe(prompt="[cat:dog:0.5] at [sea|night]", steps=4), bundle, EmbeddingCache())
        counter.remove()
        assert counter.calls == 1 + 4
        texts = [told.at(step).prompt_embeds for step in range(4)]
        assert not torch.equal(texts[0], texts[2])
        assert not torch.equal(texts[0], texts[1])


def test_and_gives_a_row_each(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        conditions = encode_prompts(make_recipe(prompt="cat AND dog :0.5"), bundle, EmbeddingCache()).at(0)
        assert conditions.prompt_embeds.shape[0] == 3
        assert conditions.weights == (1.0, 0.5)
        unguided = encode_prompts(make_recipe(prompt="cat AND dog :0.5", guidance=1.0), bundle, EmbeddingCache()).at(0)
        assert unguided.prompt_embeds.shape[0] == 2
        assert not unguided.is_guided


def test_long_prompt_says_how_much_was_not_read(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        told = encode_prompts(make_recipe(prompt="cat " * 20_000), bundle, EmbeddingCache())
        assert told.notices == ("The prompt is longer than 1,500 tokens: its last 18,500 words were not read.",)


def test_clip_skip_beyond_the_encoder_is_refused(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sd2"].ref, str(entries["sd2"].path)) as bundle:
        with pytest.raises(InvalidRecipe, match="has 1") as caught:
            encode_prompts(make_recipe("sd2", clip_skip=2), bundle, EmbeddingCache())
    assert caught.value.code == "invalid_clip_skip"


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_emphasis_modes_weigh_as_their_formulas_say(
    kind: str, models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    """Recomputed in float64 from the embeddings of the words alone and of nothing."""
    with models.lease(entries[kind].ref, str(entries[kind].path)) as bundle:

        def encode(prompt: str, emphasis: str) -> Tensor:
            recipe = make_recipe(kind, prompt=prompt, emphasis=emphasis, guidance=1.0)
            return encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds.double()

        plain, empty = encode("cat dog sea", "original"), encode("", "original")
        found = {name: encode("cat (dog:1.6) (sea:0.5)", name) for name in EMPHASES}
        widths = [bundle.modules[name].config.hidden_size for name in bundle.modules if "text_encoder" in name]
        in_brackets = encode(r"cat \(dog:1.6\) \(sea:0.5\)", "original")
    weights = torch.ones(77, dtype=torch.float64)
    weights[2], weights[3] = 1.6, 0.5  # behind the begin token and “cat”
    scaled = plain * weights[:, None]
    expected = {
        "ignore": plain,
        "no_norm": scaled,
        "comfyui": empty + (plain - empty) * weights[:, None],
        "none": in_brackets,
    }
    for name, embeds in expected.items():
        torch.testing.assert_close(found[name], embeds, atol=2e-6, rtol=1e-5)
    restored = []
    for before, after in zip(plain.split(widths, dim=-1), scaled.split(widths, dim=-1), strict=True):
        has_means = all(abs(part.mean()) > 0.01 * part.std() for part in (before, after))
        restored.append(after * (before.mean() / after.mean()) if has_means else after)
    torch.testing.assert_close(found["original"], torch.cat(restored, dim=-1), atol=2e-6, rtol=1e-5)
    assert all(not torch.equal(found["comfyui"], found[name]) for name in ("original", "no_norm", "ignore"))


def test_a_cached_prompt_keeps_its_emphasis_apart(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    cache = EmbeddingCache()
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        counter = Counter(bundle)
        for _ in range(2):
            found = [
                encode_prompts(make_recipe("sd1", prompt="(dog:1.6)", emphasis=name), bundle, cache).at(0).prompt_embeds
                for name in ("comfyui", "no_norm", "comfyui")
            ]
            assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
        assert counter.calls == 4  # the words for each of two modes, nothing at all, and the negative prompt
        counter.remove()


def test_each_encoder_of_sdxl_reads_its_own_prompt(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    """Prompts of different lengths, emphasis and editing: each half as if both encoders read that prompt."""
    first, second = "a [cat:dog:1] at (sea:1.4)", "night (sun:0.6) " + "red " * 80
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        cache = EmbeddingCache()

        def encode(**prompts: object) -> list[Tensor]:
            recipe = make_recipe("sdxl", guidance=1.0, steps=2, **prompts)
            steps = [encode_prompts(recipe, bundle, cache).at(step) for step in range(2)]
            assert all(conditions.added is not None for conditions in steps)
            return [*(one.prompt_embeds for one in steps), *((one.added or {})["text_embeds"] for one in steps)]

        both, long = encode(prompt=first, prompt_2=second), encode(prompt=second)
        short, nothing = encode(prompt=first), encode(prompt="")[0]
        assert torch.equal(encode(prompt=first, prompt_2=first)[0], encode(prompt=first)[0])
    assert both[0].shape == (1, 2 * 77, 32)
    for step in range(2):
        padded = torch.cat([short[step], nothing], dim=1)
        torch.testing.assert_close(both[step][..., :16], padded[..., :16])
        torch.testing.assert_close(both[step][..., 16:], long[step][..., 16:])
        torch.testing.assert_close(both[2 + step], long[2 + step])  # the second encoder pools
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("emphasis", EMPHASES)
def test_second_prompts_are_weighed_by_every_emphasis(
    emphasis: str, models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:

        def encode(prompt: str, prompt_2: str | None = None) -> Tensor:
            recipe = make_recipe("sdxl", prompt=prompt, prompt_2=prompt_2, emphasis=emphasis, guidance=1.0)
            return encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds

        found = encode("a cat", "(dog:1.5) sea")
        torch.testing.assert_close(found[..., :16], encode("a cat")[..., :16])
        torch.testing.assert_close(found[..., 16:], encode("(dog:1.5) sea")[..., 16:])


def test_an_empty_negative_prompt_is_zeros_only_where_both_are_empty(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:

        def negative(**prompts: object) -> Tensor:
            recipe = make_recipe("sdxl", negative_prompt="", **prompts)
            return encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds[0]

        assert not negative().any() and not negative(negative_prompt_2="").any()
        assert negative(negative_prompt_2="dog")[:, :16].any()


def test_prompts_joined_by_and_share_the_second(
    models: ModelManager, entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]
) -> None:
    with models.lease(entries["sdxl"].ref, str(entries["sdxl"].path)) as bundle:
        recipe = make_recipe("sdxl", prompt="cat AND dog", prompt_2="sea AND sun")
        embeds = encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds
    assert embeds.shape[0] == 3
    assert torch.equal(embeds[1][:, 16:], embeds[2][:, 16:]) and not torch.equal(embeds[1], embeds[2])
