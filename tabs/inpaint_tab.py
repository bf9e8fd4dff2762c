"""The Inpaint tab: a start picture whose masked area is painted anew. The canvas lies over the stage."""

from tabs.panes import GeneratingTab

INPAINT = GeneratingTab("inpaint", "Inpaint", (
    "prompt_box", "model_row", "strength_field", "size_field", "sampler_fields", "number_fields", "seed_fields",
    "more_section", "explain_switch"))
