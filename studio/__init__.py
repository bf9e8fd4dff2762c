"""Queue, run, save, remember, extend. The facade is `studio/studio.py`.

Knows no torch, no gradio and no HTTP; only `studio/workers/` touches the engine, and lazily.
"""

VERSION = "0.1.0"
