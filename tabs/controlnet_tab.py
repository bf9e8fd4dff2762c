"""The ControlNet tab: as Text to image, with pictures that say where things go standing open."""

from tabs.panes import GeneratingTab

CONTROLNET = GeneratingTab("controlnet", "ControlNet", (
    "prompt_box", "model_row", "size_field", "sampler_fields", "number_fields", "seed_fields",
    "more_section", "explain_switch"))
