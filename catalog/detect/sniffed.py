"""What a header says of its file, as a value. Who tells it: `sniff.py` and the modules it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from contract.values import ModelKind

# Of the prompt's embeddings -> family.
WIDTHS: Mapping[int, str] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"})
REFUSED_FAMILIES: Mapping[str, str] = MappingProxyType({"sdxl_refiner": "SDXL refiner", "sd3": "SD 3", "flux": "Flux"})
_RUNS = "SD 1.x, SD 2.x or SDXL"


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A file, by its header.

    Attributes:
        kind: None for what is no model by itself; `detail` may say what it is.
        family: As in `families.py`; "sd" for a VAE with 4 channels (the shapes of SD 1.x, SD 2.x and SDXL are one);
            "sdxl_refiner", "sd3", "flux" and "unknown" are told and not run.
        variant: Of a checkpoint: what it works from.
        prediction: "epsilon", "v_prediction", "edm", or "" where the header doesn't say.
        zero_snr: It says that it was trained to zero terminal signal-to-noise ratio.
        has_vae: False of a checkpoint without one inside.
        detail: Words for what is not in the other fields: "LoCon", "SD 3.5 medium", "a text encoder".
        problem: Why it can't be used, as a sentence; "" when it can.
    """

    kind: ModelKind | None
    family: str = "unknown"
    variant: str = "text"
    prediction: str = ""
    zero_snr: bool = False
    has_vae: bool = True
    detail: str = ""
    control_type: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""


def refused_family(kind: ModelKind, family: str, detail: str = "") -> Sniffed:
    """A model of a family that the engine can't run, with its sentence."""
    label = detail if detail.startswith(("SD", "Flux")) else REFUSED_FAMILIES.get(family, "")
    if kind == "checkpoint" and family == "sdxl_refiner":
        problem = "It is an SDXL refiner, which can't start a picture."
    elif not label:
        problem = "It is for a model that is not known here."
    elif kind == "checkpoint":
        problem = f"It is {label}, which Darkroom can't run yet."
    else:
        problem = f"It is for {label}, which Darkroom can't run yet."
    return Sniffed(
        kind,
        family,
        detail=detail,
        problem=problem,
        hint="Use an SDXL base." if family == "sdxl_refiner" else f"Use one for {_RUNS}.",
    )
