"""The Text to image tab: the sections of its recipe, in the order of the page."""

from tabs.panes import GeneratingTab

TXT2IMG = GeneratingTab(
    "txt2img",
    "Text to image",
    (
        "prompt_box",
        "model_row",
        "size_field",
        "sampler_fields",
        "number_fields",
        "seed_fields",
        "lora_section",
        "regions_section",
        "hires_section",
        "refiner_section",
        "ip_adapter_section",
        "sampling_section",
        "guidance_section",
        "more_section",
        "explain_switch",
    ),
)
