"""What is remembered about a model: a person's own defaults for it, and what the machine's owner says it predicts."""

from typing import Annotated

from pydantic import Field

from contract.values import ClipSkip, Frozen, Guidance, Name, Prediction, Side, Steps

MAX_REMEMBERED_TEXT = 10_000
MAX_TRIGGER_WORDS = 24
TriggerWords = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=MAX_TRIGGER_WORDS)
]


class ModelDefaults(Frozen):
    """A person's own defaults for a checkpoint. None: as the model has it.

    They fill the form when the model is chosen; drafts of programs don't take them.

    vae: its name; "" is the model's own.
    trigger_words: in the place of those that the model's file or notes give.
    is_distilled: the answer to whether it is a distilled model, which is asked once.
    """

    sampler: Name | None = None
    schedule: Name | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    vae: Annotated[str, Field(max_length=300)] | None = None
    clip_skip: ClipSkip | None = None
    negative_prompt: Annotated[str, Field(max_length=MAX_REMEMBERED_TEXT)] | None = None
    trigger_words: TriggerWords | None = None
    is_distilled: bool | None = None


class ModelPrediction(Frozen):
    """What a checkpoint predicts, whatever its files say."""

    prediction: Prediction
