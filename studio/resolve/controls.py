"""Resolves controls, IP-Adapters and previews of preprocessors to models and preprocessors.

Knows only the sizes of images, not their pixels.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from catalog.detect.control_models import LABELS, refuse_other_family, union_type_index
from catalog.detect.ip_adapters import FACE_PACK, face_root, is_of_face
from catalog.models import ModelEntry
from catalog.preprocessors import (
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
        model = _control_model(asked.model, ("controlnet", "t2i_adapter"), part, finder, entry)
        preprocessor = _require_preprocessor(asked.preprocessor, finder.models.folders, f"{part}.preprocessor")
        refuse_thresholds(preprocessor, asked.low, asked.high, part)
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
        union = finder.models.find(model.name, "controlnet")
        if union and union.control_type:
            name = f"{LABELS['controlnet']} “{union.title}”"
            union_type_index(name, union.control_type, control, f"{part}.control_type")
        controls.append(control)
    return tuple(controls)


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
    if found.needs_mask:
        raise InvalidRecipe(
            f"“{found.label}” has no preview: it shows what the mask of a job hides.",
            "Choose another preprocessor.",
            field="preprocessor",
        )
    return task.model_copy(update={"preprocessor": found.id})
