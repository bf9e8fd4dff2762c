"""Every model that a recipe names beside its checkpoint, acquired together for one job.

Controls, IP-Adapters with their image encoders and hypernetworks act while the job runs and are detached at its end;
LoRAs stay patched until another set is asked for (`lora/patch.py`); textual inversions are tokens of the prompts.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffusers import ControlNetXSAdapter
from torch import Tensor, nn

from catalog.detect.control_models import refuse_other_family
from catalog.detect.ip_adapters import face_root, image_encoder_of
from catalog.families import FAMILIES
from catalog.files.folders import fingerprint, settings_of
from catalog.files.headers import read_whole_header
from catalog.files.weights import weights_files
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import Control, LoraUse, ModelRef, Recipe
from contract.work import WorkItem, path_key
from engine.adapters.control_lora import control_lora
from engine.adapters.controlnet import ControlSet, controls_of
from engine.adapters.controlnet_xs import ControlNetXS, attached_xs
from engine.adapters.face_id import face_lora
from engine.adapters.hypernetworks import LoadedHypernetwork, apply_hypernetworks
from engine.adapters.ip_adapter import (
    ImagePrompt,
    LoadedIpAdapter,
    check_ip_adapter_fits,
    image_prompts,
    with_image_prompts,
)
from engine.adapters.lllite import LLLite, attached_lllite
from engine.adapters.reference import Reference, attached_reference
from engine.adapters.textual_inversion import NO_TEXTUAL_INVERSIONS, TextualInversions, textual_inversions_of
from engine.device.evaluations import Evaluate
from engine.device.wrapped_padding import wrapped
from engine.images.inpaint_region import InpaintRegion
from engine.images.preprocessors import Preprocessors
from engine.lora.patch import LoadedLora, patch_loras
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.regions.loras import RegionalLoras, regional_loras
from engine.sampling.denoise import Controls
from engine.weights.named_tensors import NamedTensors

LocatedModel = tuple[ModelRef, str]  # a model and its path
# The tensors of these tell whether they fit; their own family may not be known.
_FITS_BY_TENSORS = ("lora", "hypernetwork", "embedding", "vae")


@dataclass(frozen=True, slots=True)
class JobModels:
    """What acts on a job's steps beside its checkpoint. Valid only while it is acquired.

    Attributes:
        bundle: The checkpoint with its LoRAs patched in.
        regional_loras: Those of the recipe's regions, attached.
        notices: Sentences for the person, about LoRAs that fit in part.
        idle: The same about LoRAs that change nothing.
    """

    bundle: Bundle
    controls: ControlSet
    prompts: tuple[ImagePrompt, ...] = ()
    textual_inversions: TextualInversions = NO_TEXTUAL_INVERSIONS
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    regional_loras: RegionalLoras = field(default_factory=RegionalLoras)

    @property
    def has_hooks(self) -> bool:
        """Whether something acts inside the layers of the U-Net, where nothing but its modules would see it."""
        return any(isinstance(net, (LLLite, ControlNetXS, Reference)) for net in self.controls.nets)

    def controls_for(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> Controls | None:
        """What the loop calls in a pass of the recipe's size; None where there is nothing to add.

        Args:
            region: Which part of the init image the pass generates.
        Raises:
            InvalidRecipe: a control doesn't fit.
            StudioError: a control map can't be made.
        """
        units = self.controls.units(recipe, bundle, region)
        return with_image_prompts(controls_of(units, bundle), self.prompts, bundle)


@dataclass(slots=True)
class SecondModel:
    """The refiner of a job: held beside the checkpoint, or in turns with it where memory has no room for both.

    Attributes:
        takes_turns: Its weights and the checkpoint's are in host memory one at a time.
        bundle: While it is there.
    """

    located: LocatedModel
    own: Bundle
    models: ModelManager
    takes_turns: bool
    leases: ExitStack
    bundle: Bundle | None = None

    def come(self) -> Iterator[float]:
        """Load it, unless it is there; yields the fraction done."""
        if self.bundle is not None:
            return
        if self.takes_turns:
            self.models.park(self.own)
        yield from self.models.prepare(*self.located)
        leased = self.leases.enter_context(self.models.lease(*self.located, rival=self.own))
        self.bundle = patch_loras(leased, ()).bundle  # an earlier job's may still be in it

    def make_way(self) -> Iterator[float]:
        """Give the checkpoint its memory back, where they take turns; yields the fraction done."""
        if self.takes_turns:
            self.leases.close()
            self.bundle = None
            yield from self.models.unpark(self.own)


@contextmanager
def second_model(
    recipe: Recipe, paths: Mapping[str, str], models: ModelManager, own: Bundle
) -> Iterator[SecondModel | None]:
    """The refiner that a recipe names, not loaded yet; None where it names none.

    Raises:
        InvalidRecipe: the work item names no path for it.
        ModelProblem: it can't be used.
    """
    if recipe.refiner is None:
        yield None
        return
    ref = recipe.refiner.model
    if path_key(ref) not in paths:
        raise InvalidRecipe(
            f"The work item names no place for the model {ref.name}.", "Choose the refiner again.", field="refiner"
        )
    located = (ref, paths[path_key(ref)])
    with ExitStack() as leases:
        yield SecondModel(located, own, models, not models.has_room_beside_leased(*located), leases)


def locate(ref: ModelRef, recipe: Recipe, paths: Mapping[str, str]) -> LocatedModel:
    """Where a model of the recipe is, as a model for the recipe's checkpoint.

    Raises:
        InvalidRecipe: it is of another family than the checkpoint, or the work item names no path for it.
    """
    if ref.kind in _FITS_BY_TENSORS:
        ref = ref.model_copy(update={"family": recipe.model.family})
    refuse_other_family(ref, recipe.model)
    if path_key(ref) not in paths:
        raise InvalidRecipe(
            f"The work item names no place for the model {ref.name}.", "Choose the model again.", field="model"
        )
    return ref, paths[path_key(ref)]


def wanted_models(recipe: Recipe, paths: Mapping[str, str]) -> tuple[LocatedModel, ...]:
    """What has to be in memory beside the checkpoint.

    Raises:
        InvalidRecipe: of another family than the checkpoint.
        ModelProblem: an image encoder is missing.
    """
    ip_adapters = [locate(ip_adapter.model, recipe, paths) for ip_adapter in recipe.ip_adapters]
    wanted: list[LocatedModel] = []
    if recipe.vae:
        wanted.append(locate(recipe.vae, recipe, paths))
    for control in recipe.controls:
        if control.model is not None:
            wanted.append(locate(control.model, recipe, paths))
    wanted += ip_adapters
    for ip_adapter in ip_adapters:
        encoder = _image_encoder_of(ip_adapter)
        wanted += [encoder] if encoder else []
    for lora in recipe.loras:
        wanted.append(locate(lora.model, recipe, paths))
    for hypernetwork in recipe.hypernetworks:
        wanted.append(locate(hypernetwork.model, recipe, paths))
    for ref in recipe.embeddings:
        wanted.append(locate(ref, recipe, paths))
    for region in recipe.regions.regions if recipe.regions else ():
        for lora in region.loras:
            wanted.append(locate(lora.model, recipe, paths))
    return tuple(wanted)


def home_of_vae(recipe: Recipe, paths: Mapping[str, str]) -> LocatedModel:
    """The model whose VAE decodes a recipe's images: its VAE, else its checkpoint."""
    return locate(recipe.vae or recipe.model, recipe, paths)


def _image_encoder_of(ip_adapter: LocatedModel) -> LocatedModel | None:
    ref, path = ip_adapter
    folder = image_encoder_of(Path(path))
    if folder is None:
        return None
    encoder = ModelRef(
        kind="ip_adapter",
        name=f"{ref.name}/{folder.name}",
        family=ref.family,
        fingerprint=fingerprint(folder, weights_files(folder), settings_of(folder, "ip_adapter")),
    )
    return encoder, str(folder)


@contextmanager
def made_of_unet(control: Control, tensors: Mapping[str, Tensor], bundle: Bundle) -> Iterator[nn.Module]:
    """A control of a file that is no net by itself: a Control-LoRA, or a ControlNet-LLLite. Raises InvalidRecipe."""
    if any(name.startswith("lllite_") for name in tensors):
        with attached_lllite(control, tensors, bundle) as net:
            yield net
    else:
        yield control_lora(control, tensors, bundle)


@contextmanager
def with_vae(own: Bundle, recipe: Recipe, work_item: WorkItem, models: ModelManager) -> Iterator[Bundle]:
    """The checkpoint as the recipe evaluates it, with the VAE that it names in place of the checkpoint's own.

    Raises:
        InvalidRecipe: the VAE is for other latents.
        ModelProblem: the checkpoint has no VAE, and the recipe names none.
    """
    own = replace(own, tiling=recipe.tiling)
    if recipe.vae is None:
        if not own.has("vae"):
            raise ModelProblem(f"{own.ref.name} has no VAE of its own.", "Choose a VAE beside it.")
        yield own
        return
    with models.lease(*locate(recipe.vae, recipe, work_item.model_paths)) as loaded:
        config: Any = loaded.onload("vae").config
        theirs = config.latent_channels
        ours = FAMILIES[own.ref.family].latents.channels
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
    """Lease what a recipe names, and patch or attach it to the checkpoint.

    Raises:
        InvalidRecipe: a model that doesn't go with the checkpoint.
    """
    paths = work_item.model_paths

    def lease(located: LocatedModel, leases: ExitStack) -> nn.Module:
        """The only component of a model that is no checkpoint."""
        components = leases.enter_context(models.lease(*located)).modules
        return next(iter(components.values()))

    def load_lora(use: LoraUse, leases: ExitStack) -> LoadedLora:
        located = locate(use.model, recipe, paths)
        return LoadedLora(use, lease(located, leases), Path(located[1]))

    # Patching LoRAs and reading textual inversions needs their files only meanwhile.
    with ExitStack() as leases:
        loras = [load_lora(use, leases) for use in recipe.loras]
        for ip_adapter in recipe.ip_adapters:  # FaceID has a LoRA inside, which acts whole, as its authors have it
            located = locate(ip_adapter.model, recipe, paths)
            tensors = lease(located, leases)
            inside = face_lora(tensors.state_dict(), bundle.modules.get("unet"))
            if inside is not None:
                check_ip_adapter_fits(ip_adapter, LoadedIpAdapter(tensors, None), bundle)
                loras.append(LoadedLora(LoraUse(model=ip_adapter.model), inside, Path(located[1])))
        embeddings = {}
        for ref in recipe.embeddings:
            embeddings[ref] = lease(locate(ref, recipe, paths), leases).state_dict()
        patched = patch_loras(bundle, loras)
        textual_inversions = textual_inversions_of(embeddings, bundle)

    with ExitStack() as leases:
        controls: list[nn.Module] = []
        evaluate: dict[nn.Module, Evaluate] = {}
        for control in recipe.controls:
            if control.model is None:
                controls.append(leases.enter_context(attached_reference(patched.bundle)))
                continue
            held = leases.enter_context(models.lease(*locate(control.model, recipe, paths)))
            (net,) = held.modules.values()
            if isinstance(net, NamedTensors):
                controls.append(leases.enter_context(made_of_unet(control, net.state_dict(), patched.bundle)))
                continue
            if isinstance(net, ControlNetXSAdapter):
                controls.append(leases.enter_context(attached_xs(net, patched.bundle)))
                continue
            controls.append(net)
            evaluate[net] = wrapped(held.evaluate, recipe.tiling)
        ip_adapters = []
        for ip_adapter in recipe.ip_adapters:
            located = locate(ip_adapter.model, recipe, paths)
            tensors, found = lease(located, leases), _image_encoder_of(located)
            encoder = lease(found, leases) if found else None
            ip_adapters.append(LoadedIpAdapter(tensors, encoder, face_root(preprocessors.folders)))
        prompts = leases.enter_context(image_prompts(recipe, ip_adapters, work_item.images, patched.bundle))
        hypernetworks = []
        for network in recipe.hypernetworks:
            located = locate(network.model, recipe, paths)
            metadata = read_whole_header(Path(located[1])).metadata
            hypernetworks.append(LoadedHypernetwork(network, lease(located, leases), metadata))
        leases.enter_context(apply_hypernetworks(patched.bundle, hypernetworks))
        of_regions = []
        for region in recipe.regions.regions if recipe.regions else ():
            # One that counts nowhere is left out with all that belongs to it.
            of_regions.append([load_lora(use, leases) for use in region.loras if region.weight])
        in_regions = leases.enter_context(regional_loras(patched.bundle, of_regions))
        yield JobModels(
            patched.bundle,
            ControlSet(tuple(controls), work_item.images, preprocessors, evaluate),
            prompts,
            textual_inversions,
            (*patched.notices, *in_regions.notices),
            (*patched.idle, *in_regions.idle),
            in_regions,
        )
