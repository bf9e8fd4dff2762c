"""Every trainer's spelling of a LoRA's tensors is cut into the same part, path and role, and told as a LoRA."""

import pytest

from catalog.detect.lora_names import ROLES, cut, other_kind, place_of
from catalog.detect.sniff import sniff
from tests.support.layouts import Shapes, tensors

UNET = "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
DOTTED = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT = "encoder_layers_0_self_attn_q_proj"
DOTTED_TEXT = "encoder.layers.0.self_attn.q_proj"
LDM = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"

SPELLINGS: dict[str, tuple[str, str, str]] = {
    # stem: part, path, who writes it
    f"lora_unet_{UNET}": ("unet", UNET, "kohya, OneTrainer"),
    f"lora_unet_{LDM.replace('.', '_')}": ("unet", LDM.replace(".", "_"), "kohya for SDXL"),
    f"lora_te_text_model_{TEXT}": ("text_encoder", TEXT, "kohya"),
    f"lora_te1_text_model_{TEXT}": ("text_encoder", TEXT, "kohya for SDXL"),
    f"lora_te2_text_model_{TEXT}": ("text_encoder_2", TEXT, "kohya for SDXL"),
    "lora_te2_text_projection": ("text_encoder_2", "text_projection", "kohya for SDXL"),
    f"lycoris_{UNET}": ("unet", UNET, "SimpleTuner"),
    f"lycoris_unet_{UNET}": ("unet", UNET, "LyCORIS by itself"),
    f"lycoris_text_model_{TEXT}": ("text_encoder", TEXT, "LyCORIS by itself"),
    f"lycoris_te1_text_model_{TEXT}": ("text_encoder", TEXT, "LyCORIS by itself"),
    f"lycoris_te2_text_model_{TEXT}": ("text_encoder_2", TEXT, "LyCORIS by itself"),
    f"lycoris_lora_unet_{UNET}": ("unet", UNET, "LyCORIS"),
    f"unet.{DOTTED}": ("unet", UNET, "diffusers"),
    f"unet.unet.{DOTTED}": ("unet", UNET, "diffusers, saved twice"),
    f"unet.{DOTTED.replace('attn2.to_k', 'attn2.processor.to_k')}": ("unet", UNET, "diffusers' old processors"),
    f"text_encoder.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "diffusers"),
    f"text_encoder_2.text_model.{DOTTED_TEXT}": ("text_encoder_2", TEXT, "diffusers"),
    f"text_encoder_1.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "trainers of SDXL"),
    f"base_model.model.{DOTTED}": ("unet", UNET, "peft"),
    f"unet.base_model.model.{DOTTED}": ("unet", UNET, "peft in diffusers"),
    f"base_model.model.unet.{DOTTED}": ("unet", UNET, "peft"),
    f"base_model.model.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "peft"),
    f"text_encoder.base_model.model.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "peft in diffusers"),
    f"module.unet.{DOTTED}": ("unet", UNET, "several cards"),
    f"base_model.model.base_model.model.{DOTTED}": ("unet", UNET, "peft twice"),
    f"diffusion_model.{LDM}": ("unet", LDM.replace(".", "_"), "ComfyUI"),
    f"model.diffusion_model.{LDM}": ("unet", LDM.replace(".", "_"), "A1111's merges"),
    f"text_encoders.clip_l.transformer.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "ComfyUI"),
    f"text_encoders.clip_g.transformer.text_model.{DOTTED_TEXT}": ("text_encoder_2", TEXT, "ComfyUI"),
    f"text_encoders.clip_h.transformer.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "ComfyUI for SD 2"),
    f"clip_l.transformer.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "ComfyUI's merges"),
    f"clip_l.text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "OMI"),
    f"clip_g.text_model.{DOTTED_TEXT}": ("text_encoder_2", TEXT, "OMI"),
    DOTTED: ("unet", UNET, "diffusers' unet alone"),
    f"text_model.{DOTTED_TEXT}": ("text_encoder", TEXT, "transformers alone"),
}


@pytest.mark.parametrize("stem", SPELLINGS)
def test_a_stem_names_its_part_and_path(stem: str) -> None:
    place = place_of(stem)
    assert (place.part, place.path) == SPELLINGS[stem][:2]


@pytest.mark.parametrize("stem", ["lora_prior_unet_x", "t5.x", "foo", ""])
def test_a_stem_of_other_models_names_no_part(stem: str) -> None:
    assert place_of(stem).part == ""


@pytest.mark.parametrize(
    ("name", "cut_in"),
    [
        *((f"x.y{ending}", ("x.y", role)) for ending, role in ROLES.items()),
        ("x.lora_A.default.weight", ("x", "down")),
        ("x.lora_B.my_adapter.weight", ("x", "up")),
        ("x.lora_A.default_0.weight", ("x", "down")),
        ("x.lora_magnitude_vector.default.weight", ("x", "magnitude")),
        ("x.lora_magnitude_vector.ink", ("x", "magnitude")),
        ("x.to_q_lora.down.weight", ("x.to_q", "down")),
        ("x.oft_R.default.weight", ("x", "oft_R")),
        ("x.boft_R.ink", ("x", "boft_R")),
        ("x.boft_s.ink", ("x", "out_scale")),
        ("soft_x.weight", ("soft_x", "factor")),
        ("soft_x.bias", ("soft_x.bias", "")),
        ("x.bias", ("x.bias", "")),
        ("x", ("x", "")),
        ("", ("", "")),
        ("x.lora_A", ("x", "down")),
        ("x.lora_unknown", ("x.lora_unknown", "")),
    ],
)
def test_a_name_is_cut_by_its_longest_ending(name: str, cut_in: tuple[str, str]) -> None:
    assert cut(name) == cut_in


FORMS: dict[str, Shapes] = {
    "LoRA": {".lora_down.weight": (4, 768), ".lora_up.weight": (640, 4), ".alpha": ()},
    "peft": {".lora_A.weight": (4, 768), ".lora_B.weight": (640, 4)},
    "peft named": {".lora_A.ink.weight": (4, 768), ".lora_B.ink.weight": (640, 4)},
    "LoHa": {".hada_w1_a": (640, 4), ".hada_w1_b": (4, 768), ".hada_w2_a": (640, 4), ".hada_w2_b": (4, 768)},
    "LoKr": {".lokr_w1": (4, 4), ".lokr_w2": (160, 192)},
    "full difference": {".diff": (640, 768), ".diff_b": (640,)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stem", [stem for stem, (part, _, _) in SPELLINGS.items() if part == "unet"])
def test_what_can_be_put_on_a_model_is_listed_as_a_lora_of_its_family(stem: str, form: str) -> None:
    found = sniff(tensors({stem + ending: shape for ending, shape in FORMS[form].items()}))
    assert (found.kind, found.problem, found.family) == ("lora", "", "sd1"), found


@pytest.mark.parametrize(
    "stem",
    [stem for stem, (part, _, _) in SPELLINGS.items() if part.startswith("text_encoder") and "projection" not in stem],
)
def test_one_for_a_text_encoder_alone_is_listed_too(stem: str) -> None:
    found = sniff(tensors({f"{stem}.lora_down.weight": (4, 768), f"{stem}.lora_up.weight": (768, 4)}))
    assert (found.kind, found.problem) == ("lora", "")
    of_one = place_of(stem).part == "text_encoder" and not place_of(stem).is_first_of_several
    assert found.family == ("sdxl" if place_of(stem).part == "text_encoder_2" else "sd1" if of_one else "unknown")


@pytest.mark.parametrize("prefix", ["lora_unet_", "lycoris_", "lora_te_text_model_"])
def test_norms_alone_are_a_lora(prefix: str) -> None:
    stem = (
        "encoder_layers_0_layer_norm1"
        if "te" in prefix[:8] and prefix != "lora_unet_" and prefix != "lycoris_"
        else "down_blocks_0_resnets_0_norm1"
    )
    found = sniff(tensors({f"{prefix}{stem}.w_norm": (320,), f"{prefix}{stem}.b_norm": (320,)}))
    assert (found.kind, found.detail, found.problem) == ("lora", "norms", "")


@pytest.mark.parametrize(
    ("endings", "kind"),
    [
        ((".oft_embedding_R.weight",), "an OFT of the words' table"),
        ((".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight", ".alpha"), "GLoRA"),
        ((".vera_lambda_b", ".vera_lambda_d"), "VeRA"),
    ],
)
def test_kinds_that_are_not_run_are_named_in_the_list(endings: tuple[str, ...], kind: str) -> None:
    found = sniff(tensors({f"lora_unet_{UNET}{ending}": (4, 4) for ending in endings}))
    assert (found.kind, found.problem) == ("lora", f"It is {kind}, which is not run here.")
    assert other_kind([f"x{endings[0]}"]) == kind


@pytest.mark.parametrize(
    ("endings", "kind"),
    [
        ({".oft_blocks": (4, 80, 80), ".alpha": ()}, "OFT"),
        ({".oft_blocks": (4, 80, 80), ".rescale": (320, 1)}, "OFT"),
        ({".oft_diag": (4, 80, 80)}, "OFT"),
        ({".oft_R.weight": (24, 496)}, "OFT"),
        ({".oft_r": (4, 80, 80)}, "OFT"),
        ({".oft_blocks": (3, 80, 4, 4)}, "BOFT"),
        ({".boft_R": (1, 192, 4, 4), ".boft_s": (320, 1)}, "BOFT"),
    ],
)
@pytest.mark.parametrize("prefix", ["lora_unet_", "oft_unet_", "lycoris_", "unet.base_model.model."])
def test_rotations_are_told_apart(prefix: str, endings: Shapes, kind: str) -> None:
    found = sniff(tensors({f"{prefix}{UNET}{ending}": shape for ending, shape in endings.items()}))
    assert (found.kind, found.detail, found.problem) == ("lora", kind, ""), found
    # What turns the input is as wide as the prompt's embeddings: the family's own width.
    is_wide = ".boft_R" in endings or ".oft_R.weight" in endings
    assert found.family == ("sd1" if is_wide else "unknown")


def test_a_checkpoint_with_such_a_name_inside_stays_one() -> None:
    found = sniff(
        tensors({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), "encoder.a1.weight": (4, 4)})
    )
    assert found.kind == "checkpoint"
