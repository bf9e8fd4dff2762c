"""A recipe in, pictures out: torch and diffusers, no gradio, SQL, HTTP or settings file.

`paint.py` is the public entry; `denoise.py` is the loop.
"""
