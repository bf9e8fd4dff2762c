"""The ControlNet tab: as Text to image, with pictures that say where things go standing open."""

from tabs.panes import GeneratingTab

CONTROLNET = GeneratingTab(
    "controlnet",
    "ControlNet",
    (
        "prompt_box",
        "model_row",
        "control_section",
        "ip_adapter_section",
        "size_field",
        "sampler_fields",
        "number_fields",
        "seed_fields",
        "lora_section",
        "regions_section",
        "hires_section",
        "refiner_section",
        "sampling_section",
        "guidance_section",
        "more_section",
        "explain_switch",
    ),
)
