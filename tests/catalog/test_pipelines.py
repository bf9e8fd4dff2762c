"""Folders in diffusers' layout of what is not run here, told by their pipeline's name."""

import pytest

from catalog.detect.pipelines import Pipeline


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("FluxPipeline", "It is Flux,"),
        ("FluxFillPipeline", "It is Flux,"),
        ("Flux2Pipeline", "It is Flux 2,"),
        ("StableCascadeDecoderPipeline", "Stable Cascade"),
        ("StableCascadePriorPipeline", "Stable Cascade"),
        ("PixArtAlphaPipeline", "PixArt"),
        ("PixArtSigmaPipeline", "PixArt"),
        ("AuraFlowPipeline", "AuraFlow"),
        ("KolorsPipeline", "Kolors"),
        ("HunyuanDiTPipeline", "Hunyuan-DiT"),
        ("HunyuanImagePipeline", "Hunyuan Image"),
        ("HunyuanVideoPipeline", "Hunyuan Video"),
        ("Lumina2Pipeline", "Lumina"),
        ("SanaPipeline", "Sana"),
        ("WanPipeline", "Wan"),
        ("QwenImagePipeline", "Qwen-Image"),
        ("ZImagePipeline", "Z-Image"),
        ("ChromaPipeline", "Chroma"),
        ("HiDreamImagePipeline", "HiDream"),
        ("CogView4Pipeline", "CogView"),
        ("GlmImagePipeline", "GLM-Image"),
        ("KandinskyV22Pipeline", "Kandinsky"),
        ("StableVideoDiffusionPipeline", "Stable Video Diffusion"),
        ("Zero1to3StableDiffusionPipeline", "Zero123"),
        ("IFPipeline", "DeepFloyd IF"),
    ],
)
def test_it_is_named_and_refused(pipeline: str, words: str) -> None:
    refused = Pipeline.of({"_class_name": pipeline}).refused()
    assert refused is not None and words in refused.problem and "can't run" in refused.problem


@pytest.mark.parametrize(
    "pipeline", ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"]
)
def test_those_that_run_are_not(pipeline: str) -> None:
    assert Pipeline.of({"_class_name": pipeline}).refused() is None
