"""LoRAs and their kin: keys, deltas, and patching them into a loaded model and out of it."""
