"""From model files to other model files: pickles to safetensors, merges, LoRAs baked in.

Each runs in a process of its own.
"""
