"""The Inpaint tab: a start picture whose masked area is generated again, or that is extended beyond its sides.

The mask editor lies over the result pane (page/inpaint/inpaint_workspace.js). mask_edge_section writes what both modes
add to the recipe, so it stands after the strength, which begins `init_image`.
"""

from tabs.panes import GeneratingTab

INPAINT = GeneratingTab(
    "inpaint",
    "Inpaint",
    (
        "prompt_box",
        "model_row",
        "inpaint_section",
        "strength_field",
        "mask_edge_section",
        "size_field",
        "sampler_fields",
        "number_fields",
        "seed_fields",
        "lora_section",
        "refiner_section",
        "regions_section",
        "control_section",
        "ip_adapter_section",
        "sampling_section",
        "guidance_section",
        "more_section",
        "explain_switch",
    ),
)
