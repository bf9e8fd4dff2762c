"""SD 3 and 3.5: a transformer of joint blocks, rectified flow, two CLIPs and, where a checkpoint has it, T5."""

from collections.abc import Mapping

from catalog.families.family import (
    CheckpointHeader,
    Defaults,
    Family,
    LatentFormat,
    T5Encoder,
    TextEncoder,
    TransformerLora,
    three_sizes,
)
from catalog.families.sniffed import NotAMatch, Sniffed
from catalog.files.tensor_names import Tensors, has_fragment, has_prefix

_JOINT_BLOCK = "joint_blocks.0.x_block.attn."
_POOLED = "time_text_embed.text_embedder.linear_1.weight"  # of diffusers' transformer; few other models have it
_MEDIUM_BLOCKS = 30  # SD 3.5 large has 38, medium 24
_OLD, _MEDIUM, _LARGE, _TURBO = "SD 3", "SD 3.5 medium", "SD 3.5 large", "SD 3.5 large turbo"
# Its ControlNets: of 3.5 large, and of all others, whose transformers are 1536 wide.
_WIDE, _NARROW, _MOST_NARROW = "for SD 3.5 large", "for SD 3 and SD 3.5 medium", 1536
_HINT, _SINGLE, _CHANNELS = "pos_embed_input.proj.weight", "transformer_blocks.0.attn", 16
_KINDS_OF_LARGE = ("lines", "depth", "tile")  # canny, depth, blur
_TITLES = ("modelspec.architecture", "modelspec.title", "modelspec.implementation")


def claim_sd3(family: Family, header: CheckpointHeader) -> Sniffed:
    """Claim a transformer, by its original and by diffusers' names."""
    names = header.denoiser
    if f"{_JOINT_BLOCK}qkv.weight" in names:
        blocks, is_normalized = "joint_blocks.", f"{_JOINT_BLOCK}ln_q.weight" in names
    elif _POOLED in names and "pos_embed.proj.weight" in names and has_fragment(names, ".attn.add_q_proj."):
        blocks, is_normalized = "transformer_blocks.", "transformer_blocks.0.attn.norm_q.weight" in names
    else:
        raise NotAMatch
    count = len({name.split(".")[1] for name in names if name.startswith(blocks)})
    is_turbo = any("turbo" in header.metadata.get(key, "").lower() for key in _TITLES)
    has_vae = "first_stage_model.decoder.conv_in.weight" in header.tensors
    return Sniffed("checkpoint", family.id, has_vae=has_vae, detail=_detail(count, is_normalized, is_turbo))


def detail_of_config(config: Mapping[str, object]) -> str:
    """Which of them a folder's transformer is."""
    count = config.get("num_layers")
    return _detail(count if isinstance(count, int) else 0, bool(config.get("qk_norm")))


def _detail(blocks: int, is_normalized: bool, is_turbo: bool = False) -> str:
    if not is_normalized:
        return _OLD
    if blocks <= _MEDIUM_BLOCKS:
        return _MEDIUM
    return _TURBO if is_turbo else _LARGE


def is_sd3_controlnet(header: Tensors) -> bool:
    """Whether a header is that of one of its ControlNets."""
    is_transformer = has_prefix(header, "controlnet_blocks.") and _POOLED in header
    return is_transformer and "controlnet_x_embedder.weight" not in header


def claim_controlnet(header: Tensors | None, config: Mapping[str, object]) -> Sniffed:
    """What one of its ControlNets is: by its header, or by the configuration of its folder where there is no header.

    Those of SD 3.5 large have no positions of their own; which of three kinds one is neither of the two tells.
    """
    if header is not None:
        first = header["controlnet_blocks.0.weight"].shape if "controlnet_blocks.0.weight" in header else ()
        hint = header[_HINT].shape if _HINT in header else ()
        width, taken = (first[0] if first else 0), (hint[1] if len(hint) > 1 else 0)
        shares_positions = "pos_embed.proj.weight" not in header or f"{_SINGLE}.qkv.weight" in header
        if f"{_SINGLE}.qkv.weight" in header and header[_POOLED].shape[-1:] == (width,):
            return _refused_controlnet("It is a ControlNet of SD 3.5 medium of Stability's own form, which is not run.")
    else:
        heads, channels = config.get("num_attention_heads", 18), config.get("attention_head_dim", 64)
        more, latents = config.get("extra_conditioning_channels", 0), config.get("in_channels", 16)
        numbers = (heads, channels, more, latents)
        width = taken = 0
        if all(isinstance(number, int) for number in numbers):
            width, taken = int(str(heads)) * int(str(channels)), int(str(latents)) + int(str(more))
        shares_positions = config.get("use_pos_embed") is False
    kinds: dict[int, tuple[str, ...]] = {_CHANNELS: (), _CHANNELS + 1: ("inpaint",)}
    if not width or taken not in kinds:
        return _refused_controlnet(f"It is a ControlNet of SD 3 that takes {taken} channels, which is not known.")
    control_type = _KINDS_OF_LARGE if shares_positions and taken == _CHANNELS else kinds[taken]
    return Sniffed("controlnet", "sd3", detail=_WIDE if width > _MOST_NARROW else _NARROW, control_type=control_type)


def _refused_controlnet(problem: str) -> Sniffed:
    return Sniffed("controlnet", "sd3", problem=problem, hint="Use another ControlNet for SD 3.")


def detail_of_controlnet(checkpoint: str) -> str:
    """The detail of the ControlNets that fit a checkpoint of this detail."""
    return _WIDE if checkpoint in (_LARGE, _TURBO) else _NARROW


FAMILY = Family(
    id="sd3",
    label="SD 3",
    claim=claim_sd3,
    sizes=three_sizes((1024, 1024), (1216, 832), (832, 1216)),
    defaults=Defaults(sampler="euler", steps=28, guidance=5.0, width=1024, height=1024),
    # As their makers advise. Of the turbo model nothing but a name in the file tells.
    by_detail={
        _MEDIUM: Defaults(sampler="euler", steps=40, guidance=4.5, width=1024, height=1024),
        _LARGE: Defaults(sampler="euler", steps=28, guidance=3.5, width=1024, height=1024),
        _TURBO: Defaults(sampler="euler", steps=4, guidance=1.0, width=1024, height=1024),
    },
    detail_of=detail_of_config,
    predictions={"text": "flow_prediction"},
    flow_shift=3.0,
    latents=LatentFormat(channels=_CHANNELS, scale=1.5305, shift=0.0609),
    layer_read=2,
    text_encoders=(
        TextEncoder("text_encoder", "text_encoders.clip_l.", is_projecting=True),
        TextEncoder("text_encoder_2", "text_encoders.clip_g.", is_open=True, is_projecting=True),
    ),
    t5=T5Encoder("text_encoder_3", "text_encoders.t5xxl.transformer.", ("tokenizer_3", "t5_tokenizer"), tokens=256),
    conditioning=(
        ("y_embedder.mlp.0.weight", "context_embedder.weight"),
        (_POOLED, "context_embedder.weight"),
    ),
    skipped_layers=(7, 8, 9),
    embedding_keys=frozenset({"t5xxl"}),
    metadata_names=("sd3", "stable-diffusion-3", "stable-diffusion-v3"),
    pipeline="StableDiffusion3",
    transformer="SD3Transformer2DModel",
    transformer_lora=TransformerLora(fragments=("joint_blocks_",), widths=(1536, 2432)),
    claims_control=is_sd3_controlnet,
    controlnet=claim_controlnet,
    controlnet_detail=detail_of_controlnet,
)
