"""T5, the text encoder that reads whole prompts: from a folder, a file of its own, or a checkpoint's file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from catalog.detect.quantized import without_companions
from catalog.detect.text_encoders import TOKENIZER_FILE
from catalog.families.family import Family
from catalog.files.folders import read_json
from catalog.files.headers import TensorInfo, read_header
from catalog.files.weights import weights_files
from contract.errors import ModelProblem
from engine.checkpoints.component import Component, Config, packings_of, plain_config
from engine.checkpoints.foreign_config import blame_config
from engine.checkpoints.infer_config import Shapes, count_children
from engine.checkpoints.single_file import blame_shapes, shapes_of
from engine.weights.reading import TensorSlice

_ATTENTION, _FEED_FORWARD = "block.0.layer.0.SelfAttention", "block.0.layer.1.DenseReluDense"


def t5_component(facts: Family, path: Path) -> Component:
    """T5's encoder.

    Args:
        path: Its folder, or the file that holds it.
    Raises:
        ModelProblem: it can't be used.
    """
    assert facts.t5 is not None
    files = weights_files(path) if path.is_dir() else (path,)
    header: dict[str, TensorInfo] = {}
    for file in files:
        header |= without_companions(read_header(file))
    prefix = facts.t5.key_prefix if any(name.startswith(facts.t5.key_prefix) for name in header) else ""
    slices: dict[str, TensorSlice] = {}
    for name in header:
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and rest.startswith("encoder."):
            slices[rest.removeprefix("encoder.")] = TensorSlice(name)
        elif name.startswith(prefix) and rest == "shared.weight":
            slices.setdefault("embed_tokens.weight", TensorSlice(name))
    if path.is_dir():
        config = plain_config(read_json(path / "config.json"))
    else:
        with blame_shapes(path):
            config = t5_config(shapes_of(slices, header))
    return Component(config, build_t5, partial(tuple, files), slices, packings=packings_of(slices, header))


def t5_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of an encoder whose tensors have these names and shapes.

    Raises:
        KeyError, IndexError: it lacks a tensor, or one has too few dimensions.
    """
    vocabulary, width = shapes["embed_tokens.weight"]
    buckets, heads = shapes[f"{_ATTENTION}.relative_attention_bias.weight"]
    is_gated = f"{_FEED_FORWARD}.wi_0.weight" in shapes
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": shapes[f"{_ATTENTION}.q.weight"][0] // max(1, heads),
        "d_ff": shapes[f"{_FEED_FORWARD}.wi_0.weight" if is_gated else f"{_FEED_FORWARD}.wi.weight"][0],
        "num_layers": count_children(shapes, "block."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu" if is_gated else "relu",
    }


def build_t5(config: Config) -> nn.Module:
    """Token ids (B, tokens) -> last_hidden_state (B, tokens, width)."""
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5Stack

    encoder = {**config, "is_decoder": False, "is_encoder_decoder": False, "use_cache": False}
    module: nn.Module = T5Stack(T5Config.from_dict(encoder))
    return module


def read_t5_tokenizer(folder: Path, vocabulary: int) -> Any:
    """T5's tokenizer, as the library `tokenizers` has it.

    Args:
        vocabulary: Tokens that the encoder knows.
    Raises:
        ModelProblem: it can't be read, or was made for another encoder.
    """
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    with blame_config(f"{folder.name}/{TOKENIZER_FILE} can't be read", "Download it again."):
        tokenizer = TokenizersBackend(tokenizer_file=str(folder / TOKENIZER_FILE)).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    known: Mapping[str, int] = tokenizer.get_vocab()
    if max(known.values(), default=0) >= vocabulary:
        raise ModelProblem(
            f"{folder.name} knows {len(known):,} tokens; T5 was made for {vocabulary:,}.",
            "Use the tokenizer that came with the model.",
        )
    return tokenizer
