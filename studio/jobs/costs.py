"""The cost of a job, and the seconds it takes here: the rate is learned per model and remembered."""

import threading

from catalog.guidance import evaluations_per_step
from catalog.samplers import SAMPLERS
from contract.tasks import Generate, Task, Upscale
from studio.storage.database import Database

_NEWEST_WEIGHT = 0.3
_UPSCALING, _PREPROCESSING = 2.0, 0.5


def billed(task: Task) -> str:
    """The name under which a task's speed is learned: its first model's, or the kind of task."""
    if task.models and task.queue_name == "engine":
        return task.models[0].name
    return task.type


def cost(task: Task) -> float:
    """Model evaluations × megapixels × images; guidance 1 needs one evaluation a step, others two or more.

    Other tasks of the engine are put in the same unit by a guess that their learned rate corrects. Model tasks, which
    wait for no device, cost the same each: turns are by job there.
    """
    if isinstance(task, Generate):
        recipe, hires = task.recipe, task.recipe.hires
        strength = recipe.init_image.strength if recipe.init_image else 1.0
        megapixels = recipe.width * recipe.height / 2**20
        first = recipe.passes[0]
        work = _evaluations(recipe.sampler, first.steps, strength) * evaluations_per_step(*first) * megapixels
        if hires:
            second = recipe.passes[1]
            evaluations = _evaluations(hires.sampler or recipe.sampler, second.steps, hires.strength)
            work += evaluations * evaluations_per_step(*second) * megapixels * hires.scale**2
        return work * recipe.count
    if task.queue_name != "engine":
        return 1.0
    if isinstance(task, Upscale):
        return _UPSCALING * task.scale**2
    return _PREPROCESSING


def expected_pixels(task: Task) -> int:
    """Pixels of each picture that a task makes, as far as the task says."""
    if not isinstance(task, Generate):
        return 0
    scale = task.recipe.hires.scale if task.recipe.hires else 1.0
    return round(task.recipe.width * task.recipe.height * scale**2)


def _evaluations(name: str, steps: int, strength: float) -> float:
    """At least one; a start picture's strength leaves out the first steps."""
    sampler = SAMPLERS.get(name)
    made = max(1, min(steps, int(steps * strength)))
    if sampler is None:
        return made
    return sampler.evaluations(made)


class Rates:
    """Seconds per unit of cost, by model name: an average that leans to the newest."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._rates: dict[str, float] = {}

    def load(self) -> None:
        """Load the rates that earlier runs of the program measured."""
        rows = self._database.rows("SELECT model, seconds_per_cost FROM model_rates")
        with self._lock:
            self._rates = {row["model"]: row["seconds_per_cost"] for row in rows}

    def predict(self, model: str, job_cost: float) -> float | None:
        """Seconds for a job; None before anything was measured. An unknown model takes the mean."""
        with self._lock:
            rate = self._rates.get(model)
            if rate is None and self._rates:
                rate = sum(self._rates.values()) / len(self._rates)
        if rate is None:
            return None
        return rate * job_cost

    def learn(self, model: str, job_cost: float, seconds: float) -> None:
        """Take in a finished job."""
        if job_cost <= 0 or seconds <= 0:
            return
        with self._lock:
            rate, old = seconds / job_cost, self._rates.get(model)
            if old is not None:
                rate = old + _NEWEST_WEIGHT * (rate - old)
            self._rates[model] = rate
        self._database.write(
            "INSERT INTO model_rates VALUES (?, ?) ON CONFLICT (model) "
            "DO UPDATE SET seconds_per_cost = excluded.seconds_per_cost",
            (model, rate),
        )
