"""What a job costs, and how long that takes here: the rate is learned per model and remembered."""

import threading

from catalog.samplers import SAMPLERS
from contract.recipe import Recipe
from studio.database import Database

_NEWEST_WEIGHT = 0.3


def cost(recipe: Recipe) -> float:
    """Evaluations of the model × megapixels × pictures; guidance 1 needs one evaluation, others two."""
    sampler = SAMPLERS.get(recipe.sampler)
    evaluations = sampler.evaluations(recipe.steps) if sampler else recipe.steps
    pair = 1 if recipe.guidance == 1 else 2
    return evaluations * pair * recipe.width * recipe.height / 2**20 * recipe.count


class Rates:
    """Seconds per unit of cost, by model name: an average that leans to the newest."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._rates: dict[str, float] = {}

    def load(self) -> None:
        """Recall what earlier runs of the program measured."""
        rows = self._database.rows("SELECT model, seconds_per_cost FROM model_rates")
        with self._lock:
            self._rates = {row["model"]: row["seconds_per_cost"] for row in rows}

    def predict(self, model: str, job_cost: float) -> float | None:
        """Seconds for a job; None before anything was measured. An unknown model takes the mean."""
        with self._lock:
            rate = self._rates.get(model)
            if rate is None and self._rates:
                rate = sum(self._rates.values()) / len(self._rates)
        return None if rate is None else rate * job_cost

    def learn(self, model: str, job_cost: float, seconds: float) -> None:
        """Take in a finished job."""
        if job_cost <= 0 or seconds <= 0:
            return
        with self._lock:
            newest, old = seconds / job_cost, self._rates.get(model)
            rate = newest if old is None else old + _NEWEST_WEIGHT * (newest - old)
            self._rates[model] = rate
        self._database.write("INSERT INTO model_rates VALUES (?, ?) ON CONFLICT (model) "
                             "DO UPDATE SET seconds_per_cost = excluded.seconds_per_cost", (model, rate))
