"""Reads the configurations of a diffusers folder, with care: they may hold anything.

`model_index.json` names the pipeline and its components; one that is null isn't there. Which components a family needs
and whether their files are there is in `folder_models.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from catalog.detect.sniff import VARIANTS
from catalog.detect.sniffed import Sniffed, refused_family
from catalog.files.plain_text import printable
from contract.errors import ModelProblem

_CHANNELS = "4 (text), 9 (inpainting), 8 (editing) and 5 (depth)"
_TRANSFORMERS: Mapping[str, str] = MappingProxyType({"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"})
# Beginnings of the names of pipelines -> what they are; the longest that fits counts. Ours begin with
# StableDiffusionPipeline, StableDiffusionXL and the like, and are told by their parts.
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
        "HiDream": "HiDream",
        "HunyuanDiT": "Hunyuan-DiT",
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
        "StableDiffusion3": "SD 3",
        "Flux": "Flux",
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
        if transformer is not None and transformer in _TRANSFORMERS:
            return refused_family("checkpoint", _TRANSFORMERS[transformer])
        fitting = [start for start in _OTHER_PIPELINES if self.class_name.startswith(start)]
        if not fitting:
            return None if transformer is None else refused_family("checkpoint", "unknown")
        what = _OTHER_PIPELINES[max(fitting, key=len)]
        family = {"SD 3": "sd3", "Flux": "flux"}.get(what, "unknown")
        return Sniffed(
            "checkpoint",
            family,
            problem=f"It is {what}, which Darkroom can't run.",
            hint="Use an SD 1.x, SD 2.x or SDXL model.",
        )

    def family(self, width: int) -> str:
        """The family by the parts. `width`: of the U-Net's cross-attentions.

        Raises:
            ModelProblem: it is an SDXL refiner.
        """
        if "text_encoder_2" in self.parts and "text_encoder" in self.parts:
            return "sdxl"
        if "text_encoder_2" in self.parts:
            raise ModelProblem("It is an SDXL refiner, which can't start a picture.", "Use an SDXL base.")
        return "sd2" if width == 1024 else "sd1"


def variant_of(unet: Mapping[str, object]) -> str:
    """What a U-Net works from, by its configuration.

    Raises:
        ModelProblem: it takes a number of channels that is none of ours, or none at all.
    """
    channels = number_of(unet, "in_channels", "unet/config.json", 4)
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
