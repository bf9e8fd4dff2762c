"""Every model that a recipe names beside its checkpoint, lent together for one job.

Controls, adapters with their encoders and hypernetworks act while the job runs and are taken off at its end; LoRAs
lie on the weights until another set is asked for (`lora/patch.py`); embeddings are words of the prompts.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from catalog.detect.control_models import image_encoder_of, refuse_other_family
from catalog.families import FAMILIES
from catalog.files.folders import fingerprint, settings_of
from catalog.files.headers import read_whole_header
from catalog.files.weights import weights_files
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import HypernetworkUse, ModelRef, Recipe
from contract.work import WorkItem, path_key
from engine.adapters.controlnet import ControlSet, controls_of
from engine.adapters.hypernetworks import LoadedHypernetwork, apply_hypernetworks
from engine.adapters.ip_adapter import ImagePrompt, LoadedIpAdapter, image_prompts, with_image_prompts
from engine.adapters.textual_inversion import NO_WORDS, Vocabulary, vocabulary_of
from engine.images.inpaint_region import InpaintRegion
from engine.images.preprocessors import Preprocessors
from engine.lora.patch import LoadedLora, PatchedLoras, patch_loras
from engine.models.manager import Bundle, ModelManager
from engine.sampling.denoise import Controls

LoadPlan = tuple[ModelRef, str]  # a model and its path


@dataclass(frozen=True, slots=True)
class JobModels:
    """What acts on a job's steps beside its checkpoint. Valid only while it is lent.

    Attributes:
        bundle: The checkpoint as its LoRAs leave it.
        notices: Sentences for the person, of LoRAs that fit in part.
        idle: The same of LoRAs that change nothing.
    """

    bundle: Bundle
    controls: ControlSet
    prompts: tuple[ImagePrompt, ...] = ()
    vocabulary: Vocabulary = NO_WORDS
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def controls_for(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> Controls | None:
        """What the loop calls in a pass of the recipe's size; None where there is nothing to add.

        Args:
            frame: What of the start picture the pass paints.
        Raises:
            InvalidRecipe: a control doesn't fit.
            StudioError: a control map can't be made.
        """
        units = self.controls.units(recipe, bundle, region)
        return with_image_prompts(controls_of(units, bundle.device), self.prompts, bundle)


def wanted_models(recipe: Recipe, paths: Mapping[str, str]) -> tuple[LoadPlan, ...]:
    """What has to be in memory beside the checkpoint.

    Raises:
        InvalidRecipe: of another family than the checkpoint.
        ModelProblem: an image encoder is missing.
    """
    vae = (_vae_of(recipe, recipe.vae, paths),) if recipe.vae else ()
    controls = [_found(control.model, recipe, paths) for control in recipe.controls]
    adapters = [_found(reference.model, recipe, paths) for reference in recipe.ip_adapters]
    return (*vae, *controls, *adapters, *(_encoder_of(adapter) for adapter in adapters), *_files(recipe, paths))


def _files(recipe: Recipe, paths: Mapping[str, str]) -> tuple[LoadPlan, ...]:
    """LoRAs, hypernetworks, embeddings."""
    refs = [*(use.model for use in (*recipe.loras, *recipe.hypernetworks)), *recipe.embeddings]
    return tuple(_file(ref, recipe, paths) for ref in refs)


def _file(ref: ModelRef, recipe: Recipe, paths: Mapping[str, str]) -> LoadPlan:
    """Whether it fits is judged by its tensors: its family may not be known."""
    return _placed(ref.model_copy(update={"family": recipe.model.family}), paths)


def home_of_vae(recipe: Recipe, paths: Mapping[str, str]) -> LoadPlan:
    """The model whose VAE a recipe's pictures come out of: its VAE, else its checkpoint."""
    if recipe.vae:
        return _vae_of(recipe, recipe.vae, paths)
    return recipe.model, paths[path_key(recipe.model)]


def _vae_of(recipe: Recipe, ref: ModelRef, paths: Mapping[str, str]) -> LoadPlan:
    """A VAE is of the family whose latents it is given: its tensors don't tell."""
    return _found(ref.model_copy(update={"family": recipe.model.family}), recipe, paths)


def _found(ref: ModelRef, recipe: Recipe, paths: Mapping[str, str]) -> LoadPlan:
    refuse_other_family(ref, recipe.model)
    return _placed(ref, paths)


def _placed(ref: ModelRef, paths: Mapping[str, str]) -> LoadPlan:
    if path_key(ref) not in paths:
        raise InvalidRecipe(
            f"The work item names no place for the model {ref.name}.", "Choose the model again.", field="model"
        )
    return ref, paths[path_key(ref)]


def _encoder_of(adapter: LoadPlan) -> LoadPlan:
    ref, path = adapter
    folder = image_encoder_of(Path(path))
    return ModelRef(
        kind="ip_adapter",
        name=f"{ref.name}/{folder.name}",
        family=ref.family,
        fingerprint=fingerprint(folder, weights_files(folder), settings_of(folder, "ip_adapter")),
    ), str(folder)


@contextmanager
def with_vae(own: Bundle, recipe: Recipe, work_item: WorkItem, models: ModelManager) -> Iterator[Bundle]:
    """The checkpoint with the VAE that the recipe names in place of its own.

    Raises:
        InvalidRecipe: the VAE is for other latents.
        ModelProblem: the checkpoint has no VAE, and the recipe names none.
    """
    if recipe.vae is None:
        if not own.has("vae"):
            raise ModelProblem(f"{own.ref.name} has no VAE of its own.", "Choose a VAE beside it.")
        yield own
        return
    with models.lease(*_vae_of(recipe, recipe.vae, work_item.model_paths)) as loaded:
        theirs = loaded.onload("vae").config.latent_channels
        ours = FAMILIES[own.ref.family].latent_channels
        if theirs != ours:
            raise InvalidRecipe(
                f"The VAE {recipe.vae.name} reads latents of {theirs} channels; {own.ref.name} makes {ours}.",
                "Choose another VAE.",
                field="vae",
            )
        yield own.with_vae(loaded)


@contextmanager
def acquire(
    recipe: Recipe, work_item: WorkItem, models: ModelManager, preprocessors: Preprocessors, bundle: Bundle
) -> Iterator[JobModels]:
    """Lease what a recipe names, and put it on the checkpoint.

    Raises:
        InvalidRecipe: a model that doesn't go with the checkpoint.
    """
    lender = _Loader(models, work_item.model_paths, recipe)
    with ExitStack() as leases:
        patched, vocabulary = lender.patch(bundle)
        bundle = patched.bundle
        controls = [
            lender.module(_found(control.model, recipe, work_item.model_paths), leases) for control in recipe.controls
        ]
        adapters = [
            lender.adapter(_found(reference.model, recipe, work_item.model_paths), leases)
            for reference in recipe.ip_adapters
        ]
        prompts = leases.enter_context(image_prompts(recipe, adapters, work_item.images, bundle))
        networks = [lender.network(use, leases) for use in recipe.hypernetworks]
        leases.enter_context(apply_hypernetworks(bundle, networks))
        yield JobModels(
            bundle,
            ControlSet(tuple(controls), work_item.images, preprocessors),
            prompts,
            vocabulary,
            patched.notices,
            patched.idle,
        )


@dataclass(frozen=True, slots=True)
class _Loader:
    """Leases models of one job by what they are for."""

    models: ModelManager
    paths: Mapping[str, str]
    recipe: Recipe

    def module(self, model: LoadPlan, leases: ExitStack) -> nn.Module:
        """The one part of a model that is no checkpoint."""
        return next(iter(leases.enter_context(self.models.lease(*model)).modules.values()))

    def adapter(self, model: LoadPlan, leases: ExitStack) -> LoadedIpAdapter:
        return LoadedIpAdapter(self.module(model, leases), self.module(_encoder_of(model), leases))

    def network(self, use: HypernetworkUse, leases: ExitStack) -> LoadedHypernetwork:
        model = _file(use.model, self.recipe, self.paths)
        return LoadedHypernetwork(use, self.module(model, leases), read_whole_header(Path(model[1])).metadata)

    def patch(self, bundle: Bundle) -> tuple[PatchedLoras, Vocabulary]:
        """Put LoRAs on and read embeddings; both need their files only meanwhile."""
        with ExitStack() as leases:
            placed = [(use, _file(use.model, self.recipe, self.paths)) for use in self.recipe.loras]
            loras = [LoadedLora(use, self.module(model, leases), Path(model[1])) for use, model in placed]
            files = {
                ref: self.module(_file(ref, self.recipe, self.paths), leases).state_dict()
                for ref in self.recipe.embeddings
            }
            return patch_loras(bundle, loras), vocabulary_of(files, bundle)
