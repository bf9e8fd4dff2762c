"""What checkpoints predict by the word of the machine's owner, where their files say something else, or nothing.

For all people alike: it is a fact of the model. It is part of a recipe's `ModelRef`, so an image can be made again
after it was forgotten, and on other machines.
"""

import threading
from dataclasses import replace

from catalog.detect.entries import ModelEntry
from catalog.families import FAMILIES
from contract.values import PREDICTIONS, Prediction
from studio.storage.database import Database


class SetPredictions:
    """The predictions that were set, by the name of the checkpoint; a model put back under its name has it again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: dict[str, Prediction] | None = None

    def set(self, name: str, prediction: Prediction) -> None:
        """Remember one. Raises StudioError."""
        self._database.write("INSERT OR REPLACE INTO model_predictions VALUES (?, ?)", (name, prediction))
        self._known = None

    def forget(self, name: str) -> None:
        """Go by the files again. Raises StudioError."""
        self._database.write("DELETE FROM model_predictions WHERE model = ?", (name,))
        self._known = None

    def apply(self, entry: ModelEntry) -> ModelEntry:
        """A checkpoint's entry as it was set; others as they are."""
        if entry.ref.kind != "checkpoint" or entry.problem:
            return entry
        return predicting(entry, self._all().get(entry.ref.name))

    def _all(self) -> dict[str, Prediction]:
        with self._lock:
            if self._known is None:
                rows = self._database.rows("SELECT model, prediction FROM model_predictions")
                self._known = {row["model"]: row["prediction"] for row in rows if row["prediction"] in PREDICTIONS}
            return self._known


def predicting(entry: ModelEntry, prediction: Prediction | None) -> ModelEntry:
    """The entry of a checkpoint that predicts this; None: what its files say. One without a choice stays as it is."""
    if entry.ref.prediction == prediction or (prediction and not entry.has_prediction_choice):
        return entry
    defaults, ref = entry.defaults, entry.ref.model_copy(update={"prediction": prediction})
    if prediction:
        named = "epsilon" if prediction == "epsilon" else "v_prediction"
        family = FAMILIES[entry.ref.family]
        plain = replace(defaults, cfg_rescale=0.0)
        defaults = family.with_rescale(plain, entry.variant, named, zero_snr=prediction == "v_zero_snr")
    return replace(entry, ref=ref, defaults=defaults)
