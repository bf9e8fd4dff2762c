"""A recipe in, images out: torch and diffusers, no gradio, SQL, HTTP or settings file.

`engine.py` is the public entry; `sampling/denoise.py` is the loop.
"""
