"""Regional prompts: where each region is, and what acts there: its prompts in the cross-attention, its LoRAs."""
