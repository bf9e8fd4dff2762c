"""Methods beside classifier-free guidance: each is one row here, with its parameters and what it goes with.

A row names its class in `engine/sampling/guidance/`. The rows stand in the order in which the methods act, the
innermost first: what combines two predictions, what adds to that, what corrects the sum, what sets the scale of a step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from catalog.samplers import EDM_PREDICTIONS
from contract.parts import GuidanceMethod
from contract.values import GUIDANCE

Value = float | str
_ALL_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction", *EDM_PREDICTIONS)
_MOST_POINTS = 32


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number from `least` to `most`, one of `choices` (id, label) where there are some, or the points of a curve."""

    id: str
    label: str
    default: Value
    least: float = 0.0
    most: float = 1.0
    step: float = 0.05
    choices: tuple[tuple[str, str], ...] = ()

    def refusal(self, value: Value) -> str:
        """What to use instead of a value, as a sentence; "" where it can be used."""
        if self.choices:
            known = [choice for choice, _ in self.choices]
            return "" if value in known else f"Use {', '.join(known[:-1])} or {known[-1]}."
        if isinstance(self.default, str):
            try:
                curve_points(str(value))
            except ValueError:
                return (
                    f"Use pairs like 0:7, 0.5:5, 1:2, at most {_MOST_POINTS}: a share of the steps, rising from 0 to "
                    f"1, and the guidance there, {GUIDANCE[0]:g} to {GUIDANCE[1]:g}."
                )
            return ""
        is_number = isinstance(value, float | int) and self.least <= value <= self.most
        return "" if is_number else f"Use a number, {self.least:g} to {self.most:g}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        does: In one sentence, for people.
        maker: "module:Class" in `engine/sampling/guidance/`; "" where no family that runs has a denoiser for it.
        off: The values at which it changes nothing: with all of them it is the same as absent.
        denoisers: The kinds of denoiser that it acts on (`Family.denoiser`).
        predictions: What the model may predict, by diffusers' names.
        needs_uncond: It acts on the difference of two predictions: at guidance 1 there is none.
        changes_unet: The denoiser computes something else meanwhile: no trace, and no batch with others.
        skips_layers: It is told which layers its family leaves out; others don't go with it.
        extra_evaluations: Of the model, for each step (from its start to its end) and prompt.
        suits_edit: It goes with models that edit by instruction, which guide by three predictions.
        suits_ip_adapter: It leaves the cross-attention to an IP-Adapter.
        suits_regions: It leaves the cross-attention to regions.
    """

    id: str
    label: str
    does: str
    maker: str
    parameters: tuple[Parameter, ...]
    off: Mapping[str, Value] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    denoisers: tuple[str, ...] = ("unet", "transformer")
    predictions: tuple[str, ...] = _ALL_PREDICTIONS
    needs_uncond: bool = False
    changes_unet: bool = False
    skips_layers: bool = False
    extra_evaluations: int = 0
    suits_edit: bool = False
    suits_ip_adapter: bool = True
    suits_regions: bool = True

    def parameter(self, name: str) -> Parameter | None:
        """One of its parameters by id."""
        return next((parameter for parameter in self.parameters if parameter.id == name), None)

    def values(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """All its values: those that are given, else the defaults."""
        return {parameter.id: given.get(parameter.id, parameter.default) for parameter in self.parameters}

    def is_off(self, given: Mapping[str, Value]) -> bool:
        """Whether it changes nothing with these values."""
        values = self.values(given)
        return bool(self.off) and all(values[name] == value for name, value in self.off.items())


_SCALE = Parameter("scale", "Scale", 3.0, 0.0, 20.0, 0.5)
_METHODS = (
    Method(
        id="apg",
        label="APG",
        aliases=("Adaptive Projected Guidance",),
        does="Strong guidance without its glaring colors: only what is new in its direction counts in full.",
        maker="projected:AdaptiveProjectedGuidance",
        parameters=(
            Parameter("eta", "Parallel part", 0.0),
            Parameter("threshold", "Norm threshold", 15.0, 0.0, 100.0, 0.5),
            Parameter("momentum", "Momentum", -0.5, -0.95, 0.95),
        ),
        needs_uncond=True,
    ),
    Method(
        id="cfg_zero",
        label="CFG-Zero*",
        aliases=("CFG-Zero star",),
        does="Scales the prediction without the prompt to fit the one with it before the two are compared.",
        maker="zero_star:ZeroStar",
        parameters=(Parameter("zero_steps", "Steps at zero", 0, 0, 10, 1),),
        needs_uncond=True,
    ),
    Method(
        id="dynamic_thresholding",
        label="Dynamic thresholding",
        aliases=("CFG Fix", "dynthres"),
        does="Keeps high guidance within the contrast that a lower one, the mimic scale, would have.",
        maker="thresholding:DynamicThresholding",
        parameters=(
            Parameter("mimic_scale", "Mimic scale", 7.0, 1.0, 30.0, 0.5),
            Parameter("percentile", "Percentile", 1.0, 0.9, 1.0, 0.0005),
            Parameter("phi", "Share", 1.0),
            Parameter("start_point", "Scaled from", "mean", choices=(("mean", "Mean"), ("zero", "Zero"))),
            Parameter("measure", "Measure", "ad", choices=(("ad", "Largest deviation"), ("std", "Standard deviation"))),
        ),
        off={"phi": 0.0},
        needs_uncond=True,
    ),
    Method(
        id="pag",
        label="PAG",
        aliases=("Perturbed-Attention Guidance",),
        does="Clearer shapes: away from what the model paints when its attention sees nothing but itself.",
        maker="perturbed:PerturbedAttention",
        parameters=(_SCALE, Parameter("adaptive", "Less for each timestep", 0.0, 0.0, 0.1, 0.001)),
        off={"scale": 0.0},
        denoisers=("unet",),
        changes_unet=True,
        extra_evaluations=1,
    ),
    Method(
        id="seg",
        label="SEG",
        aliases=("Smoothed Energy Guidance",),
        does="As PAG, but with attention that is blurred: gentler with colors.",
        maker="perturbed:SmoothedEnergy",
        parameters=(_SCALE, Parameter("blur", "Blur", 100.0, 0.0, 10000.0, 1.0)),
        off={"scale": 0.0},
        denoisers=("unet",),
        changes_unet=True,
        extra_evaluations=1,
    ),
    Method(
        id="sag",
        label="SAG",
        aliases=("Self-Attention Guidance",),
        does="Finer details: away from a picture that is blurred where the model looks most.",
        maker="self_attention:SelfAttention",
        parameters=(Parameter("scale", "Scale", 0.75, 0.0, 5.0), Parameter("blur", "Blur", 1.0, 0.1, 10.0, 0.1)),
        off={"scale": 0.0},
        denoisers=("unet",),
        changes_unet=True,
        extra_evaluations=1,
    ),
    Method(
        id="skip_layer",
        label="Skip-layer guidance",
        aliases=("SLG",),
        does="Sounder bodies and hands: away from what a transformer paints without some of its layers.",
        maker="skipped_layers:SkippedLayers",
        parameters=(
            Parameter("scale", "Scale", 2.8, 0.0, 20.0, 0.1),
            Parameter("start", "Begin", 0.01, step=0.01),
            Parameter("end", "End", 0.2, step=0.01),
        ),
        off={"scale": 0.0},
        denoisers=("transformer",),
        changes_unet=True,
        skips_layers=True,
        extra_evaluations=1,
    ),
    Method(
        id="cfg_rescale",
        label="CFG rescale",
        aliases=("Rescale CFG", "guidance_rescale"),
        does="Takes back the contrast that guidance adds; v-prediction models want 0.7.",
        maker="rescale:Rescale",
        parameters=(Parameter("phi", "Share (φ)", 0.7),),
        off={"phi": 0.0},
        needs_uncond=True,
    ),
    Method(
        id="epsilon_scaling",
        label="Epsilon scaling",
        does="Takes away a little less noise at each step, as much as the model overestimates.",
        maker="noise:EpsilonScaling",
        parameters=(Parameter("scale", "Scale", 1.005, 0.9, 1.1, 0.001),),
        off={"scale": 1.0},
        predictions=_ALL_PREDICTIONS[:3],
        suits_edit=True,
    ),
    Method(
        id="detail",
        label="Detail amount",
        aliases=("Detail Daemon",),
        does="More details (below 0 fewer): in the middle of the run the model is told of less noise than there is.",
        maker="noise:Detail",
        parameters=(
            Parameter("amount", "Amount", 0.1, -1.0, 2.0, 0.01),
            Parameter("start", "Begin", 0.2),
            Parameter("end", "End", 0.8),
            Parameter("bias", "Bias", 0.5),
            Parameter("exponent", "Exponent", 1.0, 0.0, 10.0),
            Parameter("start_offset", "Offset before", 0.0, -1.0, 1.0, 0.01),
            Parameter("end_offset", "Offset behind", 0.0, -1.0, 1.0, 0.01),
            Parameter("fade", "Fade", 0.0),
            Parameter("smooth", "Course", "smooth", choices=(("smooth", "Smooth"), ("straight", "Straight"))),
        ),
        off={"amount": 0.0, "start_offset": 0.0, "end_offset": 0.0},
        suits_edit=True,
    ),
    Method(
        id="freeu",
        label="FreeU",
        does="Weighs the U-Net's own picture against its skip connections: calmer, clearer shapes at no cost.",
        maker="freeu:FreeU",
        parameters=(
            Parameter("b1", "Backbone 1 (b1)", 1.3, 0.0, 2.0, 0.01),
            Parameter("b2", "Backbone 2 (b2)", 1.4, 0.0, 2.0, 0.01),
            Parameter("s1", "Skip 1 (s1)", 0.9, 0.0, 2.0, 0.01),
            Parameter("s2", "Skip 2 (s2)", 0.2, 0.0, 2.0, 0.01),
        ),
        off={"b1": 1.0, "b2": 1.0, "s1": 1.0, "s2": 1.0},
        denoisers=("unet",),
        changes_unet=True,
        suits_edit=True,
    ),
    Method(
        id="cfg_interval",
        label="CFG interval",
        aliases=("Limited interval guidance",),
        does="Guidance only in a part of the steps; the others follow the prompt alone and take half the time.",
        maker="schedule:Interval",
        parameters=(Parameter("start", "Begin", 0.2), Parameter("end", "End", 0.8)),
        off={"start": 0.0, "end": 1.0},
        needs_uncond=True,
    ),
    Method(
        id="guidance_curve",
        label="Guidance curve",
        does="Another guidance at each step: from the one above to one at the end, or by points of your own.",
        maker="schedule:Curve",
        parameters=(
            Parameter(
                "shape",
                "Shape",
                "linear",
                choices=(
                    ("constant", "Constant"),
                    ("linear", "Linear"),
                    ("cosine", "Cosine"),
                    ("points", "Own points"),
                ),
            ),
            Parameter("end", "Guidance at the end", 1.0, *GUIDANCE, 0.5),
            Parameter("points", "Points", "0:7, 1:1"),
        ),
        off={"shape": "constant"},
    ),
    Method(
        id="nag",
        label="NAG",
        aliases=("Normalized Attention Guidance",),
        does="Negative prompts where there is no guidance, as with few-step models: guides within the attention.",
        maker="normalized:NormalizedAttention",
        parameters=(
            Parameter("scale", "Scale", 5.0, 1.0, 20.0, 0.5),
            Parameter("tau", "Limit (τ)", 2.5, 1.0, 10.0, 0.1),
            Parameter("alpha", "Share (α)", 0.5),
        ),
        off={"scale": 1.0},
        denoisers=("unet",),
        changes_unet=True,
        suits_ip_adapter=False,
        suits_regions=False,
    ),
)
GUIDANCE_METHODS: Mapping[str, Method] = MappingProxyType({method.id: method for method in _METHODS})
# Of each of these only one makes sense, and why.
EXCLUSIVE: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"apg", "cfg_zero", "dynamic_thresholding"}), "both put a formula of their own in place of guidance"),
    (frozenset({"cfg_rescale", "dynamic_thresholding"}), "both take back the contrast of guidance"),
    (frozenset({"cfg_rescale", "apg"}), "both take back the contrast of guidance"),
)


def find_method(name: str) -> Method | None:
    """A method by id, label or alias, in any case."""
    wanted = _folded(name)
    for method in _METHODS:
        if wanted in map(_folded, (method.id, method.label, *method.aliases)):
            return method
    return None


def _folded(name: str) -> str:
    return name.strip().casefold().replace("-", " ").replace("_", " ")


def active_methods(used: Sequence[GuidanceMethod]) -> list[tuple[Method, dict[str, Value]]]:
    """Rows and whole values of a recipe's methods that change something, the innermost first."""
    by_id = {one.id: one for one in used}
    found = []
    for method in _METHODS:
        if method.id in by_id and not method.is_off(by_id[method.id].values):
            found.append((method, method.values(by_id[method.id].values)))
    return found


def changes_unet(used: Sequence[GuidanceMethod]) -> bool:
    """Whether the U-Net computes something else than it does alone, in any evaluation."""
    return any(method.changes_unet for method, _ in active_methods(used))


def curve_points(text: str) -> tuple[tuple[float, float], ...]:
    """(share of the steps, guidance) for each of "0:7, 0.5:5, 1:2".

    Raises:
        ValueError: it is not that, or a number is out of its range.
    """
    points = []
    for piece in text.split(","):
        share, _, guidance = piece.partition(":")
        points.append((float(share), float(guidance)))
    shares = [share for share, _ in points]
    is_rising = all(first < second for first, second in pairwise(shares))
    is_within = all(0 <= share <= 1 and GUIDANCE[0] <= guidance <= GUIDANCE[1] for share, guidance in points)
    if not is_rising or not is_within or len(points) > _MOST_POINTS:
        raise ValueError(text)
    return tuple(points)


def curve_guidance(guidance: float, values: Mapping[str, Value], share: float) -> float:
    """The guidance of a step by a curve.

    Args:
        guidance: The recipe's.
        values: Of the method "guidance_curve".
        share: Of the run that is done before the step, 0 for the first step, 1 for the last.
    """
    shape, end = values["shape"], float(values["end"])
    if shape == "linear":
        return guidance + (end - guidance) * share
    if shape == "cosine":
        return end + (guidance - end) * (1 + math.cos(math.pi * share)) / 2
    if shape == "constant":
        return guidance
    points = curve_points(str(values["points"]))
    for (left, before), (right, after) in pairwise(points):
        if left <= share <= right:
            return before + (after - before) * (share - left) / (right - left)
    return points[0][1] if share < points[0][0] else points[-1][1]


def interval_guidance(guidance: float, values: Mapping[str, Value], step: int, steps: int) -> float:
    """The guidance of a step by "cfg_interval": 1 outside of it. A step belongs to it if it begins within."""
    return guidance if float(values["start"]) <= step / steps < float(values["end"]) else min(guidance, 1.0)


def guidance_at(guidance: float, used: Sequence[GuidanceMethod], step: int, steps: int) -> float:
    """The scale of classifier-free guidance at a step (0-based) of a run."""
    for method, values in reversed(active_methods(used)):
        if method.id == "guidance_curve":
            guidance = curve_guidance(guidance, values, step / max(1, steps - 1))
        elif method.id == "cfg_interval":
            guidance = interval_guidance(guidance, values, step, steps)
    return guidance


def needs_negative(guidance: float, used: Sequence[GuidanceMethod], steps: int) -> bool:
    """Whether the negative prompt is read at all: guidance 1 (or less) follows the prompt alone, except by NAG."""
    if any(one.id == "nag" for one in used):
        return True
    return any(guidance_at(guidance, used, step, steps) > 1.0 for step in range(steps))


def evaluations_per_step(guidance: float, used: Sequence[GuidanceMethod], steps: int) -> float:
    """Evaluations of the model for one prompt, the mean of a run's steps."""
    further = 0.0
    for method, values in active_methods(used):
        span = float(values.get("end", 1.0)) - float(values.get("start", 0.0))
        further += method.extra_evaluations * max(0.0, span)
    guided = sum(guidance_at(guidance, used, step, steps) > 1.0 for step in range(steps))
    return 1 + guided / steps + further
