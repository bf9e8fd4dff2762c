"""What a header says of its file, as a value, and the exception of a family that is asked about another's file."""

from dataclasses import dataclass

from contract.values import ModelKind


class NotAMatch(Exception):
    """The file is not of the family that was asked. One that is, and can't be used, is a Sniffed with a problem."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A file, by its header.

    Attributes:
        kind: None for what is no model by itself; `detail` may say what it is.
        family: The id of a family; "sd" for a VAE with the latents that several families share; "unknown".
        variant: Of a checkpoint: what it works from.
        prediction: "epsilon", "v_prediction", "edm", "edm_v", or "" where the header doesn't say.
        zero_snr: It says that it was trained to zero terminal signal-to-noise ratio.
        has_vae: False of a checkpoint without one inside.
        has_encoders: False of a checkpoint without text encoders inside, in a family whose checkpoints have them.
        detail: Words for what is not in the other fields: "LoCon", "SD 3.5 medium", "a text encoder".
        problem: Why it can't be used, as a sentence; "" when it can.
    """

    kind: ModelKind | None
    family: str = "unknown"
    variant: str = "text"
    prediction: str = ""
    zero_snr: bool = False
    has_vae: bool = True
    has_encoders: bool = True
    detail: str = ""
    control_type: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""
