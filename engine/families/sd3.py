"""SD 3 and 3.5: CLIP's embeds side by side, padded to T5's width before T5's; a transformer that sees them as tokens.

T5 itself is a model of its own (`adapters/t5.py`): it is read, used and let go of before the others are needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, SD3ControlNetModel, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from catalog.families import sd3
from catalog.families.family import Family
from catalog.files.headers import TensorInfo
from contract.errors import InvalidRecipe, ModelProblem
from contract.parts import SizeConditioning
from engine.checkpoints.component import Builder, Config
from engine.checkpoints.infer_config import vae_config
from engine.checkpoints.joint_blocks import transformer_config, transformer_slices
from engine.checkpoints.key_maps import vae_slices
from engine.checkpoints.single_file import blame_shapes, clip_component, ldm_vae, shapes_of
from engine.device.evaluations import Evaluate, Outputs, by_modules
from engine.families.family import Encoded, FileComponent, Onload, hidden_layer
from engine.families.unet import float32_layers

if TYPE_CHECKING:
    from engine.sampling.denoise import Conditions, ControlResiduals, Predict


def build_text_encoder(config: Config) -> nn.Module:
    """Token ids (B, tokens) -> hidden states (B, tokens, width) and a pooled one, projected where it can be."""
    kind = CLIPTextModelWithProjection if config.get("projection_dim") else CLIPTextModel
    module: nn.Module = kind(CLIPTextConfig.from_dict(dict(config)))
    return module


def build_transformer(config: Config) -> nn.Module:
    """Noisy latents (B, C, h, w), timesteps, prompt embeds, pooled ones -> the velocity (B, C, h, w)."""
    module: Any = SD3Transformer2DModel.from_config({**config, "pos_embed_max_size": 1})
    _without_table(module, config["pos_embed_max_size"])
    built: nn.Module = module
    return built


def build_transformer_controlnet(config: Config) -> nn.Module:
    """Embedded latents and a control image's latents (B, C, h, w) -> a residual for each of its blocks."""
    side = config.get("pos_embed_max_size", 96) if config.get("use_pos_embed", True) else None
    module: Any = SD3ControlNetModel.from_config({**config, "pos_embed_max_size": 1 if side else None})
    if side:
        _without_table(module, side)
    built: nn.Module = module
    return built


def _without_table(module: Any, side: int) -> None:
    """A table of positions that comes from the file: to compute one takes seconds, and gigabytes."""
    places = module.pos_embed
    places.pos_embed_max_size = side
    places.pos_embed = torch.empty(1, side**2, module.inner_dim, device="meta")
    module.register_to_config(pos_embed_max_size=side)


def build_vae(config: Config) -> nn.Module:
    """Images (B, 3, H, W), -1..1 <-> latents (B, 16, H/8, W/8)."""
    module: nn.Module = AutoencoderKL.from_config(dict(config))
    return module


def pooled_states(encoder: nn.Module, ids: Tensor) -> Outputs:
    """The pooled output, (1, width), then the embeddings of tokens and the output of each layer."""
    output = encoder(ids, output_hidden_states=True)
    pooled = output.text_embeds if "text_embeds" in output else output.pooler_output
    return (pooled, *output.hidden_states)


@dataclass(frozen=True, slots=True)
class TransformerCall:
    """The transformer called with tensors alone: latents, timestep, prompt embeds, pooled ones, then residuals."""

    def __call__(
        self, transformer: nn.Module, latents: Tensor, t: Tensor, prompt_embeds: Tensor, pooled: Tensor, *blocks: Tensor
    ) -> Outputs:
        """The prediction, (batch, C, h, w), alone. Latents that are no whole patches are continued at their edge."""
        height, width = latents.shape[-2:]
        patch: Any = transformer.config.patch_size  # type: ignore[union-attr]
        whole = functional.pad(latents, (0, -width % patch, 0, -height % patch), mode="replicate")
        prediction = transformer(
            hidden_states=whole,
            timestep=t.expand(latents.shape[0]),
            encoder_hidden_states=prompt_embeds,
            pooled_projections=pooled,
            block_controlnet_hidden_states=list(blocks) or None,
            return_dict=False,
        )[0]
        return (prediction[..., :height, :width],)


class StableDiffusion3:
    """Both CLIPs are read at the layer before their last, without the final norm."""

    __slots__ = ()
    facts: Family = sd3.FAMILY
    zeroes_empty_negative = False
    builders: Mapping[str, Builder] = MappingProxyType(
        {
            "text_encoder": build_text_encoder,
            "text_encoder_2": build_text_encoder,
            "transformer": build_transformer,
            "vae": build_vae,
        }
    )

    def read_file(self, file: Path, header: Mapping[str, TensorInfo]) -> dict[str, FileComponent]:
        """The components that are in a file: always the transformer, maybe a VAE and text encoders."""
        slices = transformer_slices(header)
        if not slices:
            raise ModelProblem(f"{file.name} has no transformer of SD 3.", "Use another version of the model.")
        with blame_shapes(file):
            found: dict[str, FileComponent] = {"transformer": (transformer_config(shapes_of(slices, header)), slices)}
            vae = vae_slices(header)
            if vae:
                found["vae"] = (vae_config(shapes_of(vae, header), self.facts.latents), vae)
            for encoder in self.facts.text_encoders:
                component = clip_component(encoder, header, f"{encoder.prefix}transformer.")
                if component is not None:
                    found[encoder.component] = component
        return found

    def read_vae_file(self, file: Path, header: Mapping[str, TensorInfo]) -> FileComponent:
        """A VAE with LDM or diffusers' keys."""
        return ldm_vae(file, header, self.facts)

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int, evaluate: Evaluate) -> Encoded:
        """Clip skip 1 is the layer before the last, as trained; each more goes one further back."""
        layers, pooled = [], []
        for encoder, own_ids in zip(self.facts.text_encoders, ids, strict=True):
            own_pooled, *states = evaluate(encoder.component, pooled_states, own_ids)
            layers.append(hidden_layer(tuple(states), clip_skip + 1))
            pooled.append(own_pooled)
        widths = tuple(layer.shape[-1] for layer in layers)
        return Encoded(torch.cat(layers, dim=-1), torch.cat(pooled, dim=-1), widths)

    def added(self, pooled: Tensor | None, told: SizeConditioning, is_guided: bool) -> dict[str, Tensor]:
        """pooled_projections (batch, width): of both CLIPs."""
        assert pooled is not None
        return {"pooled_projections": pooled}

    def predict(
        self, onload: Onload, dtype: torch.dtype, *, in_float32: bool = False, evaluate: Evaluate | None = None
    ) -> "Predict":
        """The transformer as the loop calls it."""
        evaluate = evaluate or by_modules(onload)
        call = TransformerCall()

        def predict(
            latents: Tensor, t: Tensor, conditions: "Conditions", residuals: "ControlResiduals | None"
        ) -> Tensor:
            assert conditions.added is not None
            transformer: Any = onload("transformer")
            most = transformer.config.pos_embed_max_size * transformer.config.patch_size
            if max(latents.shape[-2:]) > most:
                limit = most * self.facts.latents.factor
                raise InvalidRecipe(
                    f"This model paints at most {limit:,} pixels a side.", "Ask for a smaller picture.", field="width"
                )
            tensors = [conditions.prompt_embeds, conditions.added["pooled_projections"]]
            if residuals is not None:
                tensors += residuals.joint_blocks
            if in_float32:
                with torch.inference_mode(), float32_layers(transformer):
                    wide = [one.float() for one in tensors]
                    return call(transformer, latents.float(), t, *wide)[0]
            return evaluate("transformer", call, latents.to(dtype), t, *tensors)[0]

        return predict


FAMILY = StableDiffusion3()
