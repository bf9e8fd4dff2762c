"""What is remembered about models: each person's own defaults, and what checkpoints predict by their owner's word.

Defaults are a person's, under the hash of the owner: nobody's button changes another's form. They fill the form only,
so that a program's drafts give the same images whatever someone remembered. A prediction is a fact of the model and
goes for all (`library/set_predictions.py`).
"""

from collections.abc import Callable

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem, RequestError
from contract.model_settings import ModelDefaults
from contract.values import Prediction
from studio.library.model_list import ModelList
from studio.library.set_predictions import SetPredictions
from studio.resolve.model_finder import Finder, require_family, require_model
from studio.resolve.parts import check_recipe_size
from studio.resolve.sampler_choice import choose_sampler
from studio.storage.database import Database
from studio.storage.owner_keys import OwnerKeys


class ModelSettings:
    """Keeps them in the database, by the name of the model: a file put back under its name has them again.

    Args:
        max_pixels: The largest image that is made.
    """

    def __init__(
        self,
        database: Database,
        owners: OwnerKeys,
        models: ModelList,
        predictions: SetPredictions,
        finder: Callable[[], Finder],
        max_pixels: int,
    ) -> None:
        self._database = database
        self._owners = owners
        self._models = models
        self._predictions = predictions
        self._finder = finder
        self._max_pixels = max_pixels

    def all_of(self, owner: str) -> dict[str, ModelDefaults]:
        """A person's own defaults by model, as far as they make sense today; models that are gone are left out."""
        found = {}
        rows = self._database.rows(
            "SELECT model, defaults FROM model_defaults WHERE owner_key = ?", (self._owners.key_of(owner),)
        )
        here = {entry.ref.name: entry for entry in self._models.all() if entry.ref.kind == "checkpoint"}
        for row in rows:
            entry = here.get(row["model"])
            if entry is not None and not entry.problem:
                found[row["model"]], _ = self._as_today(row["defaults"], entry)
        return found

    def defaults_of(self, owner: str, name: str) -> tuple[ModelDefaults | None, tuple[str, ...]]:
        """A person's own defaults for a checkpoint, None where there are none; and a sentence for each left out.

        Raises:
            NotFound: there is no such checkpoint.
        """
        entry = self._models.get(name, "checkpoint")
        text = self._database.value(
            "SELECT defaults FROM model_defaults WHERE owner_key = ? AND model = ?",
            (self._owners.key_of(owner), entry.ref.name),
        )
        if text is None:
            return None, ()
        return self._as_today(text, entry)

    def remember(self, owner: str, name: str, defaults: ModelDefaults) -> ModelDefaults:
        """Remember a person's own defaults in place of those before; all None is to forget them.

        Raises:
            NotFound: there is no such checkpoint.
            InvalidRecipe, ModelProblem: a value can't be used with it; names the field.
        """
        entry = self._models.get(name, "checkpoint")
        if entry.problem:
            raise ModelProblem(entry.problem, entry.hint)
        self._check(defaults, entry)
        if defaults == ModelDefaults():
            self.forget(owner, entry.ref.name)
        else:
            self._database.write(
                "INSERT OR REPLACE INTO model_defaults VALUES (?, ?, ?)",
                (self._owners.key_of(owner), entry.ref.name, defaults.model_dump_json(exclude_none=True)),
            )
        return defaults

    def forget(self, owner: str, name: str) -> None:
        """Forget a person's own defaults for a checkpoint, which may be gone; none is no error."""
        self._database.write(
            "DELETE FROM model_defaults WHERE owner_key = ? AND model = ?", (self._owners.key_of(owner), name)
        )

    def set_prediction(self, name: str, prediction: Prediction | None) -> None:
        """Set what a checkpoint predicts, for all; None: what its files say.

        Raises:
            NotFound: there is no such checkpoint.
            RequestError: its files leave no choice.
        """
        entry = self._models.get(name, "checkpoint")
        if prediction is None:
            self._predictions.forget(entry.ref.name)
        elif entry.has_prediction_choice:
            self._predictions.set(entry.ref.name, prediction)
        else:
            family = FAMILIES.get(entry.ref.family)
            raise RequestError(
                f"{entry.title} ({family.label if family else entry.ref.family}) does not leave open what it predicts.",
                "Use it as it is.",
                code="no_choice",
                field="prediction",
            )
        self._models.show_again()

    def _as_today(self, text: str, entry: ModelEntry) -> tuple[ModelDefaults, tuple[str, ...]]:
        """What was kept, without what can't be used any more; a sentence for each of those."""
        left_out: list[str] = []
        try:
            defaults = ModelDefaults.model_validate_json(text)
        except ValueError:  # of another version
            return ModelDefaults(), ("What was remembered can't be read; remember it again.",)
        for _ in ModelDefaults.model_fields:
            try:
                self._check(defaults, entry)
                break
            except (InvalidRecipe, ModelProblem) as problem:
                left_out.append(f"{problem.message} It is left out.")
                names = ("width", "height") if problem.field in ("", "width", "height") else (problem.field,)
                if problem.field == "sampler":
                    names = ("sampler", "schedule")
                defaults = defaults.model_copy(update=dict.fromkeys(names))
        return defaults, tuple(left_out)

    def _check(self, defaults: ModelDefaults, entry: ModelEntry) -> None:
        """Refuse what can't be used with the model. Raises InvalidRecipe, ModelProblem."""
        if defaults.sampler or defaults.schedule:
            choose_sampler(defaults.sampler, defaults.schedule, entry)
        width, height = (defaults.width or entry.defaults.width), (defaults.height or entry.defaults.height)
        if defaults.width or defaults.height:
            check_recipe_size(width, height, self._max_pixels)
        if defaults.vae:
            vae = require_model(defaults.vae, ("vae",), "vae", self._finder())
            require_family(vae, entry, "vae")
