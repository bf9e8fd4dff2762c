"""Distilled models are known by their names' words, and words of pictures are not taken for them."""

import pytest

from catalog.distilled import distilled_of
from catalog.samplers import SAMPLERS, schedules_for

CHECKPOINTS = {
    "sd_xl_turbo_1.0_fp16": ("Turbo", (1, 4), "euler_a"),
    "sdxl-turbo": ("Turbo", (1, 4), "euler_a"),
    "dreamshaperXL_v21TurboDPMSDE": ("Turbo", (4, 8), "dpmpp_sde"),
    "dreamshaperXL_lightningDPMSDE": ("Lightning", (4, 8), "dpmpp_sde"),
    "sd3.5_large_turbo": ("Turbo", (4, 8), "euler"),
    "stable-diffusion-3.5-large-turbo": ("Turbo", (4, 8), "euler"),
    "juggernautXL_v9Rdphoto2Lightning": ("Lightning", (4, 8), "euler"),
    "sdxl_lightning_4step": ("Lightning", (4, 4), "euler"),
    "realvisxlV40_v40LightningBakedvae": ("Lightning", (4, 8), "euler"),
    "Hyper-SDXL-1step-Unet": ("Hyper", (1, 8), "tcd"),
    "LCM_Dreamshaper_v7": ("LCM", (4, 8), "lcm"),
    "epicrealismXL_vxviiLastfameDMD2": ("DMD2", (4, 8), "lcm"),
}
LORAS = {
    "lcm-lora-sdv1-5": ("LCM", (4, 8), "lcm"),
    "LCM_LoRA_Weights_SD15": ("LCM", (4, 8), "lcm"),
    "sdxl_lightning_8step_lora": ("Lightning", (8, 8), "euler"),
    "Hyper-SD15-8steps-lora": ("Hyper", (8, 8), "ddim"),
    "Hyper-SDXL-1step-lora": ("Hyper", (1, 8), "tcd"),
    "Hyper-SDXL-8steps-CFG-lora": ("Hyper", (8, 8), "ddim"),
    "sd_xl_turbo_lora_v1": ("Turbo", (1, 4), "euler_a"),
    "dmd2_sdxl_4step_lora_fp16": ("DMD2", (4, 4), "lcm"),
    "TCD-SDXL-LoRA": ("TCD", (4, 8), "tcd"),
}
ORDINARY_LORAS = (
    "porsche_turbo_s",
    "lightning_bolts_v2",
    "hyper_detailed",
    "hyperrealism",
    "turbocharger",
    "add_detail",
    "two_step_dance",
    "welcome",
    "cfg-helper",
)


@pytest.mark.parametrize(("name", "wanted"), [*CHECKPOINTS.items()])
def test_checkpoints_are_known_by_their_names(name, wanted):
    found = distilled_of(name, {})
    assert found is not None
    assert (found.method, found.steps, found.sampler) == wanted


@pytest.mark.parametrize(("name", "wanted"), [*LORAS.items()])
def test_loras_are_known_by_their_names(name, wanted):
    found = distilled_of(name, {}, "lora")
    assert found is not None
    assert (found.method, found.steps, found.sampler) == wanted
    assert found.steps[0] <= found.usual_steps <= found.steps[1]
    assert found.guidance[0] <= found.usual_guidance <= found.guidance[1]
    assert found.schedule in schedules_for(SAMPLERS[found.sampler])


@pytest.mark.parametrize("name", ORDINARY_LORAS)
def test_words_of_pictures_are_no_method(name):
    assert distilled_of(name, {}, "lora") is None


@pytest.mark.parametrize("name", ["v1-5-pruned-emaonly", "sd_xl_base_1.0", "hyperion_xl", "turbovision", "sd3.5_large"])
def test_ordinary_checkpoints_are_no_method(name):
    assert distilled_of(name, {}) is None


def test_a_title_counts_where_the_name_says_nothing():
    assert distilled_of("pytorch_lora_weights", {"modelspec.title": "LCM LoRA"}, "lora").method == "LCM"
    assert distilled_of("pytorch_lora_weights", {"ss_output_name": "ink"}, "lora") is None


def test_cfg_loras_of_hyper_want_guidance():
    assert distilled_of("Hyper-SDXL-8steps-CFG-lora", {}, "lora").guidance == (3, 8)


def test_the_summary_is_a_phrase():
    assert distilled_of("lcm", {}).summary == "4–8 steps, LCM, SGM Uniform, guidance 1–2"
    assert distilled_of("sdxl_lightning_4step", {}).summary == "4 steps, Euler, SGM Uniform, guidance 1–1.5"
    assert distilled_of("sd3.5_large_turbo", {}).summary == "4–8 steps, Euler, guidance 1–1.5"
    assert distilled_of("Hyper-SDXL-1step-lora", {}, "lora").summary == "1–8 steps, TCD, SGM Uniform, guidance 1–1.5"
