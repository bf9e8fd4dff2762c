"""Reads the configurations of a diffusers folder, with care: they may hold anything.

`model_index.json` names the pipeline and its components; one that is null isn't there. Which components a family needs
and whether their files are there is in `folder_models.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from catalog.families import FAMILIES, KNOWN, Family, families_that_run, families_with_encoders, refused_family
from catalog.families.ldm_checkpoints import VARIANTS
from catalog.families.sniffed import Sniffed
from catalog.files.plain_text import printable
from contract.errors import ModelProblem

_CHANNELS = "4 (text), 9 (inpainting), 8 (editing) and 5 (depth)"
# Beginnings of the names of pipelines -> what they are; the longest that fits counts. Ours begin with
# StableDiffusionPipeline, StableDiffusionXL and the like, and are identified by their components.
_OTHER_PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "AltDiffusion": "AltDiffusion",
        "Allegro": "Allegro, a video model",
        "Amused": "aMUSEd",
        "AnimateDiff": "AnimateDiff, a video model",
        "AudioLDM": "AudioLDM, which makes sound",
        "AuraFlow": "AuraFlow",
        "Bria": "Bria",
        "Chroma": "Chroma",
        "CogVideoX": "CogVideoX, a video model",
        "CogView": "CogView",
        "ConsistencyModel": "a consistency model without text",
        "Cosmos": "Cosmos, a video model",
        "DDPM": "a model without text",
        "EasyAnimate": "EasyAnimate, a video model",
        "Flax": "in Flax",
        "Flux2": "Flux 2",
        "GlmImage": "GLM-Image",
        "HiDream": "HiDream",
        "HunyuanDiT": "Hunyuan-DiT",
        "HunyuanImage": "Hunyuan Image",
        "HunyuanVideo": "Hunyuan Video",
        "I2VGenXL": "I2VGen-XL, a video model",
        "IF": "DeepFloyd IF",
        "Kandinsky": "Kandinsky",
        "Kolors": "Kolors",
        "LDM": "a latent diffusion model older than Stable Diffusion",
        "LTX": "LTX, a video model",
        "Latte": "Latte, a video model",
        "Lumina": "Lumina",
        "Marigold": "Marigold, which estimates depth",
        "Mochi": "Mochi, a video model",
        "MusicLDM": "MusicLDM, which makes sound",
        "OV": "in OpenVINO's form",
        "OmniGen": "OmniGen",
        "Onnx": "in ONNX form",
        "OnnxStable": "in ONNX form",
        "ORT": "in ONNX form",
        "PixArt": "PixArt",
        "QwenImage": "Qwen-Image",
        "Sana": "Sana",
        "ShapE": "Shap-E",
        "StableAudio": "Stable Audio",
        "StableCascade": "Stable Cascade",
        "StableDiffusionGLIGEN": "GLIGEN",
        "StableDiffusionLatentUpscale": "an upscaler of latents (SD x2)",
        "StableDiffusionUpscale": "an upscaling model (SD x4)",
        "StableUnCLIP": "SD 2.x unCLIP",
        "StableDiffusionImageVariation": "a model of variations without text",
        "StableVideoDiffusion": "Stable Video Diffusion",
        "TextToVideo": "a video model",
        "UnCLIP": "unCLIP",
        "UniDiffuser": "UniDiffuser",
        "VQDiffusion": "VQ-Diffusion",
        "VersatileDiffusion": "Versatile Diffusion",
        "Wan": "Wan, a video model",
        "Wuerstchen": "Würstchen",
        "Zero1to3": "a model of turned views (Zero123)",
        "ZImage": "Z-Image",
    }
)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A model_index.json.

    Attributes:
        parts: The class of each part that is there.
        zeroes_empty_prompt: SDXL: an empty negative prompt is all zeros, not encoded.
    """

    class_name: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    zeroes_empty_prompt: bool = True

    @classmethod
    def of(cls, table: Mapping[str, object]) -> "Pipeline":
        """Of any table; what makes no sense in it is left out."""
        name = table.get("_class_name")
        parts = {}
        for key, value in table.items():
            # A component is ["library", "Class"]; one that is missing is [null, null] or null.
            if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str) and value[1]:
                parts[key] = value[1]
        return cls(name if isinstance(name, str) else "", parts, table.get("force_zeros_for_empty_prompt") is not False)

    def refused(self) -> Sniffed | None:
        """Why a pipeline of this kind isn't run; None for one that may be."""
        transformer = self.parts.get("transformer")
        named = [start for start in _OTHER_PIPELINES if self.class_name.startswith(start)]
        for family in KNOWN.values():
            if family.runs:
                continue
            is_its_pipeline = family.pipeline and self.class_name.startswith(family.pipeline)
            is_its_pipeline = is_its_pipeline and all(len(start) <= len(family.pipeline) for start in named)
            if is_its_pipeline or (transformer and transformer == family.transformer):
                return refused_family("checkpoint", family.id)
        if named:
            return Sniffed(
                "checkpoint",
                "unknown",
                problem=f"It is {_OTHER_PIPELINES[max(named, key=len)]}, which Darkroom can't run.",
                hint=f"Use an {families_that_run()} model.",
            )
        runs = {family.transformer for family in KNOWN.values() if family.runs}
        return None if transformer is None or transformer in runs else refused_family("checkpoint", "unknown")

    @property
    def denoiser(self) -> str:
        """The component that predicts."""
        return "transformer" if "transformer" in self.parts and "unet" not in self.parts else "unet"

    def family(self, width: int) -> str:
        """The family by the parts. `width`: of the U-Net's cross-attentions.

        Raises:
            ModelProblem: it is of a family that doesn't run, or its text encoders are of none.
        """
        for known in FAMILIES.values():
            if known.transformer and known.transformer == self.parts.get("transformer"):
                return known.id
        encoders = {part for part in self.parts if part.startswith("text_encoder")}
        fitting = families_with_encoders(encoders) or list(FAMILIES.values())
        family = fitting[0]
        for candidate in fitting:
            if candidate.unet is not None and candidate.unet.prompt_width == width:
                family = candidate
        if not family.runs:
            refused = refused_family("checkpoint", family.id)
            raise ModelProblem(refused.problem, refused.hint)
        return family.id


def variant_of(denoiser: Mapping[str, object], family: Family) -> str:
    """What a denoiser works from, by its configuration.

    Raises:
        ModelProblem: it takes a number of channels that is none of its family's, or none at all.
    """
    usual = family.latents.channels
    channels = number_of(denoiser, "in_channels", f"{family.denoiser}/config.json", usual)
    if family.unet is None and channels == usual:
        return "text"
    if family.unet is None:
        raise ModelProblem(f"Its transformer takes {channels} channels; known are {usual}.", "Use another checkpoint.")
    if channels not in VARIANTS:
        raise ModelProblem(f"Its U-Net takes {channels} channels; known are {_CHANNELS}.", "Use another checkpoint.")
    return VARIANTS[channels]


def number_of(table: Mapping[str, object], name: str, where: str, usual: int) -> int:
    """A whole number of a configuration. `usual`: what the library takes where the file says nothing.

    Raises:
        ModelProblem: it is none, or not one that a model could have.
    """
    value = table.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**20:
        raise ModelProblem(
            f"{where} says “{name}” is {printable(repr(value)[:80], 60)}, not a whole number that fits.",
            "Use the configuration that came with the model.",
        )
    return value
