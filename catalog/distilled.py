"""Distilled models: what each method of distillation wants of a recipe, and which method a model's name speaks of.

A name is a hint and never a certainty, so what is found here is offered or noted, never set. Guidance 1 is none, which
the makers' own examples, with diffusers, write as 0. Sources: the model cards of latent-consistency/lcm-lora-sdxl,
ByteDance/Hyper-SD, ByteDance/SDXL-Lightning, stabilityai/sdxl-turbo, stabilityai/stable-diffusion-3.5-large-turbo,
tianweiy/DMD2, h1t/TCD-SDXL-LoRA, and Lykon/dreamshaper-xl-v2-turbo for DPM++ SDE.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from catalog.samplers import SAMPLERS, SCHEDULES
from contract.values import ModelKind

_TITLES = ("modelspec.title", "ss_output_name")
_MOST_CHARACTERS = 300  # of a name or a title
_FLOW_MODEL = re.compile(r"\b(sd ?3|stable diffusion 3)\b")
# "dreamshaperXL_v21TurboDPMSDE" is read as "dreamshaper xl v21 turbo dpmsde".
_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
_STEPS = re.compile(r"\b(\d{1,2}) ?steps?\b")


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a method wants.

    Attributes:
        method: Its name, as people say it.
        steps, guidance: The least and the most.
        sampler, schedule: By id.
        usual_steps, usual_guidance: Those to begin with.
    """

    method: str
    steps: tuple[int, int]
    guidance: tuple[float, float]
    sampler: str
    schedule: str
    usual_steps: int
    usual_guidance: float

    @property
    def summary(self) -> str:
        """The settings in words: "4–8 steps, LCM, SGM Uniform, guidance 1–2"."""
        least, most = self.steps
        steps = f"{least}–{most} steps" if least < most else f"{most} step{'s' * (most > 1)}"
        low, high = self.guidance
        guidance = f"guidance {low:g}–{high:g}" if low < high else f"guidance {high:g}"
        names = [SAMPLERS[self.sampler].label]
        if self.schedule != "automatic":
            names.append(SCHEDULES[self.schedule].label)
        return ", ".join([steps, *names, guidance])


_LCM = Distilled("LCM", (4, 8), (1, 2), "lcm", "sgm_uniform", 6, 1)
_TCD = Distilled("TCD", (4, 8), (1, 2), "tcd", "sgm_uniform", 4, 1)
_DMD2 = Distilled("DMD2", (4, 8), (1, 1.5), "lcm", "simple", 4, 1)
_HYPER = Distilled("Hyper", (1, 8), (1, 1.5), "ddim", "sgm_uniform", 8, 1)
_HYPER_ONE_STEP = Distilled("Hyper", (1, 8), (1, 1.5), "tcd", "sgm_uniform", 1, 1)
_HYPER_CFG = Distilled("Hyper", (8, 12), (3, 8), "ddim", "sgm_uniform", 8, 5)
_LIGHTNING = Distilled("Lightning", (4, 8), (1, 1.5), "euler", "sgm_uniform", 8, 1)
_TURBO = Distilled("Turbo", (1, 4), (1, 2), "euler_a", "turbo", 4, 1)
_TURBO_FLOW = Distilled("Turbo", (4, 8), (1, 1.5), "euler", "automatic", 4, 1)
_SDE = re.compile(r"\bdpm ?(pp)? ?sde\b")  # what many merges of Turbo and Lightning are made for


@dataclass(frozen=True, slots=True)
class _Row:
    """How a method is known by a name.

    Attributes:
        words: In a checkpoint's name.
        lora_words: In a LoRA's, where the words mean other things too: a car's turbo, a flash of lightning. None: the
            same; with a number of steps `words` suffice there as well.
    """

    wants: Distilled
    words: re.Pattern[str]
    lora_words: re.Pattern[str] | None = None


_ROWS = (
    _Row(_DMD2, re.compile(r"\bdmd ?2?\b")),
    _Row(_TCD, re.compile(r"\btcd\b")),
    _Row(_LCM, re.compile(r"\blcm\b")),
    _Row(_LIGHTNING, re.compile(r"\b(sd ?xl ?)?lightning\b"), re.compile(r"\bsd ?xl ?lightning lora\b")),
    _Row(_HYPER, re.compile(r"\bhyper ?(sd\w*)?\b"), re.compile(r"\bhyper ?sd ?(xl|15|1 5|3)?\b")),
    _Row(_TURBO, re.compile(r"\b(sd ?xl ?)?turbo\b"), re.compile(r"\bsd ?(xl ?)?turbo\b")),
)


def distilled_of(name: str, metadata: Mapping[str, str], kind: ModelKind = "checkpoint") -> Distilled | None:
    """What a model wants that speaks of a method of distillation; None where nothing does.

    Args:
        name: Of its file or folder, with or without the ending.
        metadata: Of its header: the title there counts where the name says nothing.
        kind: "lora" asks for more: its words are those of pictures, too.
    """
    for text in (name, *(metadata.get(key, "") for key in _TITLES)):
        words = " ".join(_WORD_ENDS.split(text[:_MOST_CHARACTERS])).lower()
        found = _of_words(words, kind)
        if found is not None:
            return found
    return None


def _of_words(words: str, kind: ModelKind) -> Distilled | None:
    number = _STEPS.search(words)
    steps = int(number[1]) if number else 0
    for row in _ROWS:
        pattern = row.words
        if kind == "lora" and row.lora_words is not None and not steps:
            pattern = row.lora_words
        if not pattern.search(words):
            continue
        wants = row.wants
        if wants is _TURBO and _FLOW_MODEL.search(words):
            wants = _TURBO_FLOW
        elif wants is _HYPER and re.search(r"\bcfg\b", words):
            wants = _HYPER_CFG
        elif wants is _HYPER and steps == 1:
            return _HYPER_ONE_STEP
        elif wants in (_TURBO, _LIGHTNING, _HYPER) and _SDE.search(words):
            wants = replace(wants, steps=(4, 8), guidance=(2, 2), sampler="dpmpp_sde", schedule="karras")
            wants = replace(wants, usual_steps=6, usual_guidance=2)
        return replace(wants, steps=(steps, steps), usual_steps=steps) if steps else wants
    return None
