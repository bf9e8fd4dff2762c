"""From the parts of a prompt to prompt embeds: chunks of the text encoder's length, attention weights, a cache.

A chunk is begin, up to 75 tokens (fewer for small encoders), end, padding. Long prompts are read in several chunks and
no word is split; commas separate words as spaces do. The grammar is `contract/prompt.py`; each family encodes a chunk
its own way.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from catalog.guidance import needs_negative
from contract.errors import InvalidRecipe, ModelProblem
from contract.fields import LABELS
from contract.parts import SizeConditioning
from contract.prompt import Part, Piece, Prompt, parse_prompt
from contract.recipe import Recipe
from contract.values import Emphasis
from engine.adapters.prompt_chunks import MAX_CHUNKS, Chunk, Chunks, split_in_chunks
from engine.adapters.textual_inversion import (
    NO_TEXTUAL_INVERSIONS,
    TextualInversions,
    Vector,
    with_placeholder_tokens,
)
from engine.device.evaluations import by_modules
from engine.families.family import Encoded
from engine.models.bundle import Bundle
from engine.regions.attention import Regional
from engine.sampling.denoise import Conditions, ConditionsAt

_NamedParts = Mapping[str, tuple[Part, ...]]  # the prompts at one step, by their names in a recipe
CACHE_BYTES = 64 * 2**20
_PLACEHOLDER = 0
_MEAN_MATTERS = 0.01  # of the deviation; below it the mean is noise (0.1 in CLIP) and is left alone


@dataclass(slots=True)
class EmbeddingCache:
    """The newest encoded chunks, up to a number of bytes; a repeated prompt calls no text encoder."""

    limit_bytes: int = CACHE_BYTES
    _entries: OrderedDict[tuple[object, ...], Encoded] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: tuple[object, ...]) -> Encoded | None:
        """The embeds, now the newest; None if they must be encoded."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: tuple[object, ...], encoded: Encoded) -> None:
        """Keep; the oldest go when there is no room."""
        self._entries[key] = encoded
        self._bytes += _bytes_of(encoded)
        while self._bytes > self.limit_bytes and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _bytes_of(oldest)


def _bytes_of(encoded: Encoded) -> int:
    pooled_bytes = 0 if encoded.pooled is None else encoded.pooled.nbytes
    return encoded.prompt_embeds.nbytes + pooled_bytes


@dataclass(frozen=True, slots=True)
class T5Prompts:
    """What T5 reads (`t5.py`): the embeds of each part of a job's prompts, (1, tokens, width); what to say of it."""

    embeds: Mapping[Part, Tensor] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


NO_T5 = T5Prompts()


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A recipe's prompts, encoded for every step.

    Attributes:
        at: By the number of steps that the pass has run.
        notices: Sentences for the person: what was not read.
    """

    at: ConditionsAt
    notices: tuple[str, ...] = ()


@torch.inference_mode()
def encode_prompts(
    recipe: Recipe,
    bundle: Bundle,
    cache: EmbeddingCache,
    textual_inversions: TextualInversions = NO_TEXTUAL_INVERSIONS,
    *,
    t5: T5Prompts = NO_T5,
    hires_steps: int | None = None,
    after: int | None = None,
    regional: Regional | None = None,
) -> Conditioning:
    """Encode the prompts of a recipe, or of its hires pass.

    Args:
        textual_inversions: Those that the prompts may name.
        t5: What T5 reads of them, where the checkpoint has one.
        hires_steps: Those that a hires pass runs; None: this is the first pass. A first pass that begins from an init
            image runs fewer than the recipe's, yet [a:b:0.5] is half of the recipe's, as in A1111.
        after: Of a hires pass, the steps of the first.
        regional: Of a recipe with regions.
    Raises:
        InvalidRecipe: a weight is beyond every number, clip skip leaves no layer, or a region's prompt has an AND.
    """
    prompts, count = _read_all(recipe, hires_steps, after)
    encoder = _PromptEncoder(bundle, cache, recipe, textual_inversions, t5, regional)
    encoded: dict[object, Conditions] = {}
    by_step: list[Conditions] = []
    for step in range(max(1, count)):
        parts = [{name: prompt.at(step) for name, prompt in named.items()} for named in prompts]
        key = tuple(tuple(named.items()) for named in parts)
        if key not in encoded:
            encoded[key] = encoder.all_conditions(parts)
        by_step.append(encoded[key])
    last = len(by_step) - 1
    return Conditioning(lambda step: by_step[min(step, last)], encoder.truncation_notices(prompts))


def _read_all(recipe: Recipe, hires_steps: int | None, after: int | None) -> tuple[list[dict[str, Prompt]], int]:
    """The recipe's own prompts, by their names in it, then each region's; and in how many steps they may change.

    Arguments as of `encode_prompts`.
    """
    count = recipe.steps if hires_steps is None else hires_steps
    read = partial(parse_prompt, steps=count, after=after, emphasis=recipe.emphasis)
    own: dict[str, Prompt] = {}
    for name in ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2"):
        text = getattr(recipe, name)
        if text is not None:
            own[name] = read(text, composes=name == "prompt")
    prompts = [own]
    for number, region in enumerate(recipe.regions.regions if recipe.regions else ()):
        of_region = {"prompt": read(region.prompt)}
        if len(of_region["prompt"].at(0)) > 1:
            raise InvalidRecipe(
                f"Region {number + 1} has several prompts, joined by AND.",
                "Use one prompt for each region, or AND in the picture’s own prompt.",
                field=f"regions.regions.{number}.prompt",
            )
        if region.negative_prompt is not None:
            of_region["negative_prompt"] = read(region.negative_prompt, composes=False)
        prompts.append(of_region)
    is_static = all(prompt.is_static for named in prompts for prompt in named.values())
    return prompts, 1 if is_static else count


def parts_of(recipe: Recipe, hires_steps: int | None = None, after: int | None = None) -> tuple[Part, ...]:
    """Every part of the prompts that T5 reads at any step. Arguments as of `encode_prompts`."""
    (own, *_), count = _read_all(recipe, hires_steps, after)
    parts: dict[Part, None] = {}
    for step in range(max(1, count)):
        parts.update(dict.fromkeys(own["prompt"].at(step)))
        if is_guided(recipe):
            parts.update(dict.fromkeys(own["negative_prompt"].at(step)))
    return tuple(parts)


def is_guided(recipe: Recipe) -> bool:
    """Whether the negative prompt is read: guidance 1 (or less) at every step follows the prompt alone."""
    return needs_negative(recipe.guidance, recipe.guidance_methods, recipe.steps)


class _PromptEncoder:
    """Encodes for one recipe and one lease."""

    def __init__(
        self,
        bundle: Bundle,
        cache: EmbeddingCache,
        recipe: Recipe,
        inversions: TextualInversions,
        t5: T5Prompts,
        regional: Regional | None,
    ) -> None:
        self._bundle, self._cache, self._recipe, self._inversions, self._t5 = bundle, cache, recipe, inversions, t5
        self._regional = regional
        self._split: dict[Part, Chunks] = {}
        config: Any = bundle.modules[bundle.family.facts.text_encoders[0].component].config
        # Without begin and end.
        self._capacity = min(bundle.tokenizers[0].model_max_length, config.max_position_embeddings) - 2

    def all_conditions(self, prompts: Sequence[_NamedParts]) -> Conditions:
        """Those of the recipe's own prompts, which come first, with what each region reads.

        The pooled embedding, which acts on the whole picture, is the mean of all by the places that they have.
        """
        named, *regions = prompts
        own = self.conditions(named)
        if not regions or self._recipe.regions is None or self._regional is None:
            return own
        each = [own]
        for number, of_region in enumerate(regions):
            read = dict(named)
            for name, parts in named.items():
                mine = of_region.get(name.removesuffix("_2"))  # one text for both encoders
                if mine and self._recipe.regions.common:
                    read[name] = tuple(_joined(part, mine[0]) for part in parts)
                elif mine:
                    read[name] = tuple(replace(part, pieces=mine[0].pieces) for part in parts)
            with self._regional.loras.reading(number):
                each.append(self.conditions(read))
        added = dict(own.added) if own.added else None
        if added:
            shares = self._regional.places.shares.mean(dim=(1, 2))
            pooled = torch.stack([one.added["text_embeds"].float() for one in each if one.added])
            mean = (pooled * shares[:, None, None]).sum(dim=0)
            added["text_embeds"] = mean.to(added["text_embeds"].dtype)
        return replace(own, added=added, regions=tuple(one.prompt_embeds for one in each[1:]))

    def conditions(self, parts: _NamedParts) -> Conditions:
        """Of the prompts of a step, by their names in the recipe.

        The batch begins with the negative prompt where there is guidance; all entries are equally long. What is
        shorter, for one encoder or for both, goes on with empty chunks.
        """
        guided = is_guided(self._recipe)
        family = self._bundle.family
        # What the first encoder reads, and the second.
        batch = [(part, *(parts.get("prompt_2") or (part,))) for part in parts["prompt"]]
        if guided:
            (negative,) = parts["negative_prompt"]
            batch.insert(0, (negative, *(parts.get("negative_prompt_2") or (negative,))))
        chunks_of_batch = [[self._chunks_of(part).chunks for part in entry] for entry in batch]
        count = max(len(chunks) for entry in chunks_of_batch for chunks in entry)
        prompt_embeds: list[Tensor] = []
        pooled: list[Tensor] = []
        for number, entry in enumerate(chunks_of_batch):
            first, second = ((*chunks, *[Chunk()] * (count - len(chunks))) for chunks in entry)
            encoded = [self._encode(pair) for pair in zip(first, second, strict=True)]
            embeds = torch.cat([one.prompt_embeds for one in encoded], dim=1)
            embeds_pooled = encoded[0].pooled
            is_empty_uncond = guided and number == 0 and all(part.is_empty for part in batch[0])
            if is_empty_uncond and family.zeroes_empty_negative and self._bundle.zeroes_empty_prompt:
                embeds = embeds * 0
                if embeds_pooled is not None:
                    embeds_pooled = embeds_pooled * 0
            if family.facts.t5 is not None:
                embeds = self._with_t5(embeds, batch[number][0], family.facts.t5.tokens)
            prompt_embeds.append(embeds)
            if embeds_pooled is not None:
                pooled.append(embeds_pooled)
        told = (self._recipe.size_conditioning or SizeConditioning()).filled(self._recipe.width, self._recipe.height)
        added = family.added(torch.cat(pooled) if pooled else None, told, guided)
        weights = tuple(part.weight for part in parts["prompt"])
        return Conditions(torch.cat(prompt_embeds), weights, guided, added)

    def _with_t5(self, embeds: Tensor, part: Part, tokens: int) -> Tensor:
        """CLIP's embeds, (1, n, width), widened by zeros, then T5's; without T5 zeros, as in training at times.

        Source: Esser et al. 2024 (arXiv 2403.03206), section 4 and B.3.
        """
        denoiser: Any = self._bundle.modules[self._bundle.family.facts.denoiser]
        width = denoiser.config.joint_attention_dim
        of_t5 = self._t5.embeds.get(part)
        if of_t5 is None:
            of_t5 = embeds.new_zeros(1, tokens, width)
        if embeds.shape[-1] > width or of_t5.shape[-1] != width:
            raise ModelProblem(
                f"The prompts are encoded {embeds.shape[-1]} (CLIP) and {of_t5.shape[-1]} (T5) wide; "
                f"{self._bundle.ref.name} takes {width}.",
                "Use the text encoders that the model was made for.",
            )
        return torch.cat([functional.pad(embeds, (0, width - embeds.shape[-1])), of_t5.to(embeds)], dim=1)

    def truncation_notices(self, prompts: Sequence[Mapping[str, Prompt]]) -> tuple[str, ...]:
        """A sentence for each prompt of which words are not read; the recipe's own, then each region's."""
        notices = []
        for number, named in enumerate(prompts):
            where = f" of region {number}" if number else ""
            for name, prompt in named.items():
                truncated = max(self._chunks_of(part).truncated_words for part in prompt.at(0))
                if truncated:
                    words = "word" if truncated == 1 else "words"
                    notices.append(
                        f"The {LABELS[name].lower()}{where} is longer than {MAX_CHUNKS * self._capacity:,} tokens: "
                        f"its last {truncated:,} {words} were not read."
                    )
        return tuple(notices)

    def _chunks_of(self, part: Part) -> Chunks:
        """A part in chunks; remembered for this recipe."""
        if part not in self._split:
            tokenizer = self._bundle.tokenizers[0]
            self._split[part] = split_in_chunks(part.pieces, tokenizer, self._capacity, self._inversions)
        return self._split[part]

    def _encode(self, chunks: tuple[Chunk, Chunk]) -> Encoded:
        """One chunk through the text encoders, weighted; from the cache where it can be.

        Args:
            chunks: What the first reads, and what the second does, where there is one.
        """
        bundle = self._bundle
        digests = tuple(digest for name, digest in bundle.digests.items() if name.startswith("text_encoder"))
        read = [chunks[number == 1] for number in range(len(bundle.tokenizers))]
        emphasis = self._recipe.emphasis if any(chunk.is_weighted for chunk in read) else ""
        stamp = self._regional.loras.stamp if self._regional else ""
        key = (*read, self._recipe.clip_skip, digests, self._capacity, emphasis, stamp)
        encoded = self._cache.get(key)
        in_openvino = bundle.openvino.used if bundle.openvino else set[str]()
        if encoded is not None:
            in_openvino |= encoded.in_openvino
            return encoded
        # The number under a vector is never read; it must only not be the end's, where SDXL's second encoder pools.
        all_ids = []
        for tokenizer, chunk in zip(bundle.tokenizers, read, strict=True):
            tokens = [_PLACEHOLDER if isinstance(token, Vector) else token for token in chunk.tokens]
            ids = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
            ids += [tokenizer.pad_token_id] * (self._capacity - len(tokens))
            all_ids.append(torch.tensor([ids]).to(bundle.device.torch_device))
        with with_placeholder_tokens(bundle, self._inversions, [chunk.tokens for chunk in read]):
            has_vectors = any(isinstance(token, Vector) for chunk in read for token in chunk.tokens)
            evaluate = by_modules(bundle.onload) if has_vectors or stamp else bundle.evaluate
            encoded = bundle.family.encode(bundle.onload, tuple(all_ids), self._recipe.clip_skip, evaluate)
        # Each text encoder's embeds are weighted by themselves: their means have nothing to do with each other.
        widths = encoded.widths or (encoded.prompt_embeds.shape[-1],)
        empty: Sequence[Tensor | None] = [None] * len(widths)
        if emphasis == "comfyui":
            empty = self._encode((Chunk(), Chunk())).prompt_embeds.split(widths, dim=-1)
        weighed = [
            weigh_prompt_embeds(embeds, chunk, self._recipe.emphasis, nothing)
            for embeds, chunk, nothing in zip(encoded.prompt_embeds.split(widths, dim=-1), read, empty, strict=True)
        ]
        weighted = torch.cat(weighed, dim=-1) if len(weighed) > 1 else weighed[0]
        encoded = Encoded(weighted, encoded.pooled, in_openvino=frozenset(in_openvino))
        self._cache.put(key, encoded)
        return encoded


def _joined(common: Part, own: Part) -> Part:
    """A region's prompt behind the words that it shares with the whole picture."""
    if common.is_empty or own.is_empty:
        return replace(common, pieces=own.pieces if common.is_empty else common.pieces)
    return replace(common, pieces=(*common.pieces, Piece(","), *own.pieces))


def weigh_prompt_embeds(
    prompt_embeds: Tensor,
    chunk: Chunk,
    emphasis: Emphasis = "original",
    empty: Tensor | None = None,
    *,
    before: int = 1,
) -> Tensor:
    """Weigh each token's embedding. prompt_embeds: (1, tokens, width).

    "original" scales, then restores the mean; "no_norm" scales; "comfyui" goes from the embedding of `empty` (the empty
    prompt's, of the same shape) so many times as far as the token's.

    Args:
        before: Tokens before those of the chunk: the one that begins it.

    The mean carries the prompt's overall strength in CLIP as published; where it is only noise (small encoders)
    restoring it would multiply by chance, so it is left alone. The pooled embedding is never weighted, as in A1111.
    """
    if not chunk.is_weighted:
        return prompt_embeds
    rest = prompt_embeds.shape[1] - len(chunk.weights) - before
    weights = torch.tensor([*[1.0] * before, *chunk.weights, *[1.0] * rest], device=prompt_embeds.device)
    plain = prompt_embeds.float()
    if empty is not None:
        return torch.lerp(empty.float(), plain, weights[None, :, None]).to(prompt_embeds.dtype)
    weighted = plain * weights[None, :, None]
    if emphasis == "original" and _has_mean(plain) and _has_mean(weighted):
        weighted = weighted * (plain.mean() / weighted.mean())
    return weighted.to(prompt_embeds.dtype)


def _has_mean(prompt_embeds: Tensor) -> bool:
    return bool(prompt_embeds.mean().abs() > _MEAN_MATTERS * prompt_embeds.std())
