"""The Image to image tab: as Text to image, and a picture to begin from."""

from tabs.panes import GeneratingTab

IMG2IMG = GeneratingTab(
    "img2img",
    "Image to image",
    (
        "init_image_section",
        "prompt_box",
        "model_row",
        "strength_field",
        "size_field",
        "sampler_fields",
        "number_fields",
        "seed_fields",
        "lora_section",
        "regions_section",
        "repeat_section",
        "hires_section",
        "refiner_section",
        "control_section",
        "ip_adapter_section",
        "sampling_section",
        "guidance_section",
        "more_section",
        "explain_switch",
    ),
)
