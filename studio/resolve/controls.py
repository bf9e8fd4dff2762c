"""Resolves controls, IP-Adapters and previews of preprocessors to models and preprocessors.

Knows only the sizes of images, not their pixels.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from catalog.detect.control_models import INPAINT_TYPE, LABELS, WITHIN_UNET, refuse_other_family, union_type_index
from catalog.detect.ip_adapters import FACE_PACK, face_root, is_of_face
from catalog.families import FAMILIES
from catalog.models import ModelEntry
from catalog.preprocessors import (
    INPAINT,
    Preprocessor,
    annotator_folders,
    get_preprocessor,
    refuse_missing,
    refuse_shape,
    refuse_thresholds,
)
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import Control, IpAdapter, IpAdapterDraft, ModelKind, ModelRef, RecipeDraft
from contract.tasks import Preprocess
from studio.library.model_list import ModelList
from studio.resolve.model_finder import Finder, require_model
from studio.resolve.parts import SizeOf, need_picture


def resolve_controls(draft: RecipeDraft, finder: Finder, entry: ModelEntry, size_of: SizeOf) -> tuple[Control, ...]:
    """Control models of the checkpoint's family, preprocessors by id.

    Raises:
        InvalidRecipe: a name is not known, or a union model needs to know what a map shows.
        InvalidInput: a picture is too long and narrow for its preprocessor.
        ModelProblem: a model can't be used, or a preprocessor's files are missing.
    """
    has_mask = draft.mask is not None or bool(draft.init_image and draft.init_image.outpaint)
    controls: list[Control] = []
    for index, asked in enumerate(draft.controls):
        part = f"controls.{index}"
        preprocessor = _require_preprocessor(asked.preprocessor, finder.models.folders, f"{part}.preprocessor")
        refuse_thresholds(preprocessor, asked.low, asked.high, part)
        if not preprocessor.needs_model:
            _refuse_reference(draft, index, preprocessor, entry)
            changes = {"model": None, "preprocessor": preprocessor.id}
            controls.append(Control.model_validate({**dict(asked), **changes}))
            continue
        if asked.model is None:
            raise InvalidRecipe(
                f"{LABELS['controlnet']} {index + 1} has no control model.",
                "Choose one, or a preprocessor “Reference”, which needs none.",
                field=f"{part}.model",
            )
        model = _control_model(asked.model, ("controlnet", "t2i_adapter"), part, finder, entry)
        if preprocessor.needs_mask and not has_mask:
            raise InvalidRecipe(
                f"“{preprocessor.label}” shows what a mask hides, and there is no mask.",
                "Add one, or choose another preprocessor.",
                field=f"{part}.preprocessor",
            )
        size = size_of(asked.image.sha256)
        if size:
            refuse_shape(preprocessor, size, asked.resolution, f"{part}.image")
        control = Control.model_validate({**dict(asked), "model": model, "preprocessor": preprocessor.id})
        found = finder.models.find(model.name, "controlnet")
        if found is not None:
            _refuse_unfit(found, entry, preprocessor, part)
            if found.detail in WITHIN_UNET and asked.mode == "prompt":
                raise InvalidRecipe(
                    f"“{found.title}” is a {found.detail}, for which there is no mode “prompt”.",
                    "Use “balanced”, or less weight.",
                    field=f"{part}.mode",
                )
            if found.control_type:
                name = f"{LABELS['controlnet']} “{found.title}”"
                union_type_index(name, found.control_type, control, f"{part}.control_type")
        controls.append(control)
    return tuple(controls)


def _refuse_reference(draft: RecipeDraft, index: int, preprocessor: Preprocessor, checkpoint: ModelEntry) -> None:
    """Refuse a picture that the result takes after where it can't.

    Raises:
        InvalidRecipe: names what it does not go with.
    """
    part = f"controls.{index}"
    earlier = [get_preprocessor(control.preprocessor) for control in draft.controls[:index]]
    reason, hint = "", "Remove one of the two."
    if FAMILIES[checkpoint.ref.family].unet is None or checkpoint.variant != "text":
        reason, hint = f"“{checkpoint.title}”", "Use another model, or remove it."
    elif not all(other.needs_model for other in earlier):
        reason = "another reference"
    elif draft.ip_adapters:
        reason = "a picture as prompt"
    elif draft.regions:
        reason = "regions"
    if reason:
        raise InvalidRecipe(f"“{preprocessor.label}” does not go with {reason}.", hint, field=f"{part}.preprocessor")


def _refuse_unfit(net: ModelEntry, checkpoint: ModelEntry, preprocessor: Preprocessor, part: str) -> None:
    """Refuse a ControlNet of a transformer of another size, or shown what it was not trained on.

    Raises:
        InvalidRecipe: names the two that don't go together.
    """
    facts = FAMILIES[checkpoint.ref.family]
    if facts.controlnet_detail is None:
        return
    fitting = facts.controlnet_detail(checkpoint.detail)
    if net.detail and checkpoint.detail and net.detail != fitting:
        raise InvalidRecipe(
            f"{LABELS['controlnet']} “{net.title}” is {net.detail}; “{checkpoint.title}” is {checkpoint.detail}.",
            f"Pick a {LABELS['controlnet']} {fitting}.",
            field=f"{part}.model",
        )
    if preprocessor.needs_mask != (net.control_type == (INPAINT_TYPE,)):
        wants = "shows what a mask hides, which" if preprocessor.needs_mask else "hides nothing:"
        does = "was not trained on" if preprocessor.needs_mask else "was trained on what a mask hides"
        other = "another preprocessor" if preprocessor.needs_mask else f"“{get_preprocessor(INPAINT).label}”"
        raise InvalidRecipe(
            f"“{preprocessor.label}” {wants} {LABELS['controlnet']} “{net.title}” {does}.",
            f"Choose {other}.",
            field=f"{part}.preprocessor",
        )


def _require_preprocessor(name: str, folders: Sequence[Path], field: str) -> Preprocessor:
    """A preprocessor whose files are there. Raises InvalidRecipe, ModelProblem."""
    found = get_preprocessor(name, field)
    refuse_missing(found, annotator_folders(folders), field)
    return found


def _control_model(
    wanted: str | ModelRef, kinds: tuple[ModelKind, ...], part: str, finder: Finder, checkpoint: ModelEntry
) -> ModelRef:
    """A usable model of one of the kinds, of the checkpoint's family. Raises InvalidRecipe, ModelProblem."""
    ref = finder.ref(require_model(wanted, kinds, f"{part}.model", finder))
    refuse_other_family(ref, checkpoint.ref, f"{part}.model")
    return ref


def resolve_ip_adapters(drafts: Sequence[IpAdapterDraft], finder: Finder, entry: ModelEntry) -> tuple[IpAdapter, ...]:
    """IP-Adapters by name, of the checkpoint's family. Raises InvalidRecipe, ModelProblem."""
    adapters: list[IpAdapter] = []
    for index, draft in enumerate(drafts):
        field = f"ip_adapters.{index}.model"
        model = _control_model(draft.model, ("ip_adapter",), f"ip_adapters.{index}", finder, entry)
        found = finder.models.find(model.name, "ip_adapter")
        if found is not None and is_of_face(found.detail):
            _refuse_missing_faces(found.title, found.detail, annotator_folders(finder.models.folders), field)
        adapters.append(IpAdapter.model_validate({**dict(draft), "model": model}))
    return tuple(adapters)


def _refuse_missing_faces(title: str, kind: str, folders: Sequence[Path], field: str) -> None:
    """Refuse an adapter whose vectors can't be made here: the library or its files are missing. Raises ModelProblem."""
    if find_spec("insightface") is None:
        raise ModelProblem(
            f"“{title}” is an IP-Adapter {kind}: the library insightface, which reads faces for it, is not installed.",
            "Install it beside Darkroom (its models are for non-commercial use), or use an IP-Adapter Plus Face.",
            field=field,
        )
    if face_root(folders) is None:
        raise ModelProblem(
            f"“{title}” is an IP-Adapter {kind}: insightface's models “{FACE_PACK}”, which it needs, are not here.",
            f"Put them into models/annotators/insightface/models/{FACE_PACK}/, or use an IP-Adapter Plus Face.",
            field=field,
        )


def resolve_preprocess(task: Preprocess, models: ModelList, size_of: SizeOf) -> Preprocess:
    """A preview with its preprocessor's id.

    Raises:
        InvalidInput: the picture is not kept (any more), or is too long and narrow.
        InvalidRecipe: there is no such preprocessor.
        ModelProblem: its files are missing.
    """
    size = need_picture(task.image, "image", size_of)
    found = _require_preprocessor(task.preprocessor, models.folders, "preprocessor")
    refuse_thresholds(found, task.low, task.high, "")
    refuse_shape(found, size, task.resolution, "image")
    if found.needs_mask or not found.needs_model:
        shows = "what the mask of a job hides" if found.needs_mask else "the picture itself"
        raise InvalidRecipe(
            f"“{found.label}” has no preview: it shows {shows}.",
            "Choose another preprocessor.",
            field="preprocessor",
        )
    return task.model_copy(update={"preprocessor": found.id})
