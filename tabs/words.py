"""Sentences of the page that the browser gets with its configuration: what Explain says of each field."""

from collections.abc import Mapping

EXPLAIN: Mapping[str, str] = {
    "prompt": "Prompt: what the picture shows. Plain words, the most important first.",
    "negative_prompt": "Negative prompt: what the picture should keep away from.",
    "model": "Model: the file that learned to paint. Each has its own hand and its own words.",
    "size": "Size: how many pixels. A model paints best in the sizes it was trained on.",
    "sampler": "Sampler: how noise is taken away, step by step. “a” and SDE ones vary more.",
    "schedule": "Schedule: how large the steps are at which time. Automatic suits the sampler.",
    "steps": "Steps: how often the picture is improved. 20 to 30 is usual; more takes longer.",
    "guidance": "Guidance (CFG): how strictly the prompt is followed. 4 to 9 is usual.",
    "seed": "Seed: the number the noise is drawn from. The same seed and settings give the same picture.",
    "count": "Pictures: how many are made, each with the next seed.",
    "clip_skip": "Clip skip: how many last layers of the text encoder are left out. 1 leaves out none.",
}
