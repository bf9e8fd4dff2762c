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
    "init_image.image": "Start picture: the result begins from it and keeps its shapes, as far as Strength lets it.",
    "init_image.strength": "Strength (denoising): 0 keeps the picture, 1 repaints all of it. 0.5 to 0.75 is usual.",
    "init_image.resize": (
        "Resize mode: crop cuts what sticks out, fill adds a border, stretch distorts, latent stretches softly."
    ),
    "init_image.image_guidance": "Image guidance: how strictly the model holds to the picture. 1 to 2 is usual.",
    "loops": "Rounds (loopback): how often the result goes in again as the start picture.",
    "batch": "Several pictures: one job for each file, all with the settings above.",
    "hires": "Hires pass: the finished picture is upscaled and painted over once more, for finer detail.",
    "hires.upscaler": "Upscaler: how the picture is upscaled before the second pass.",
    "hires.scale": "Upscale by: how many times larger each side becomes.",
    "hires.strength": "Hires strength: how much the second pass may change. Latent upscalers need 0.5 or more.",
    "hires.steps": "Hires steps: empty takes as many as the first pass.",
    "hires.sampler": "Hires sampler: of the second pass alone.",
    "hires.schedule": "Hires schedule: of the second pass alone.",
    "hires.guidance": "Hires guidance: empty takes the guidance above.",
    "hires.prompt": "Hires prompt: other words for the second pass. Empty takes the prompt above.",
    "hires.negative_prompt": (
        "Hires negative prompt: what the second pass should keep away from. Empty takes the one above."
    ),
    "init_image.depth": "Depth picture: white is near, black is far. Without one the model estimates the depth itself.",
    "controls.model": "Control model: the ControlNet or T2I-Adapter that reads the control picture.",
    "controls.image": "Control picture: says where things go: edges, depth, a pose.",
    "controls.preprocessor": "Preprocessor: makes such a map of an ordinary picture. None takes the picture as it is.",
    "controls.weight": "Control weight: how strongly the map steers. 0.7 to 1 is usual.",
    "controls.start": "Control begin: from which fraction of the steps on the map steers.",
    "controls.end": "Control end: until which fraction. An early end leaves the details free.",
    "controls.mode": "Control mode: whether prompt and map count alike, or one of them more.",
    "controls.resize": "Resize mode: how a map of another shape is brought to the size of the result.",
    "controls.pixel_perfect": "Pixel perfect: the preprocessor works at the size of the result.",
    "controls.resolution": "Resolution: of the shorter side, at which the preprocessor works.",
    "ip_adapters": "Picture as prompt (IP-Adapter): the result takes over its subject or style, not its shapes.",
    "loras": (
        "LoRA: a small file that teaches the model a style or a thing. Some want words of their own in the prompt."
    ),
    "loras.weight": "LoRA weight: how strongly it acts. 0.6 to 1 is usual.",
    "loras.text_weight": "Text encoder: how strongly it acts on the reading of the prompt. Empty is as the weight.",
    "hypernetworks": "Hypernetwork: an older kind of small file for a style.",
    "hypernetworks.weight": "Hypernetwork weight: how strongly it acts. 0.3 to 1 is usual.",
    "vae": "VAE: turns what was painted into pixels. Automatic takes the model’s own.",
    "inpaint.mode": "What to do: change a part that you paint, or give the picture more room at its sides.",
    "mask.content": "Start the masked area from: its own picture, the colors around it, noise, or nothing at all.",
    "mask.area": "Work on: the whole picture at once, or the masked area upscaled, which gives it more detail.",
    "mask.padding": "Padding: how much around the masked area is seen while it is painted.",
    "mask.blur": "Mask blur: over how many pixels the new part goes over into the old one.",
    "mask.invert": "Change what is not painted: the mask says what stays.",
    "mask.soft": "Soft inpainting: a fainter mask changes less. The brush gets hardness and strength.",
    "init_image.outpaint.content": "What the new area starts from: the picture’s edge colors, noise, or nothing.",
    "init_image.outpaint.overlap": "Overlap: how far the new part reaches into the picture, so that no seam is seen.",
    "styles": "Styles: words kept under a name, put around the prompt or behind it when the job is sent.",
    "emphasis": (
        "Emphasis: what brackets and weights do. Original is A1111’s; No norm is stronger with many weights; "
        "ComfyUI is for prompts from there; None reads brackets as characters."
    ),
    "clip_skip": "Clip skip: 1 reads the layer of the text encoder that the model was trained on, 2 the one before it.",
}
