"""The engine's side of a family: how its modules are built and called. Its facts are in `catalog/families/`.

One module of this folder declares each family, under the family's id. `stable_diffusion.py` is what those with a U-Net
share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from catalog.families.family import Family
from catalog.files.headers import TensorInfo
from contract.errors import InvalidRecipe
from contract.parts import SizeConditioning
from engine.checkpoints.component import Builder, Config
from engine.device.evaluations import Evaluate
from engine.weights.reading import TensorSlice

if TYPE_CHECKING:
    from engine.sampling.denoise import Predict

Onload = Callable[[str], nn.Module]  # by component: brings it to the device, if it is not there
# A component of a file without configurations: what it is built from, and where its tensors are by diffusers' name.
FileComponent = tuple[Config, Mapping[str, TensorSlice]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One chunk of a prompt. prompt_embeds: (1, tokens, width); pooled: (1, width) or None.

    Attributes:
        widths: Of the text encoders whose embeddings are concatenated in `prompt_embeds`, where there are several.
        in_openvino: Which of them ran there.
    """

    prompt_embeds: Tensor
    pooled: Tensor | None = None
    widths: tuple[int, ...] = ()
    in_openvino: frozenset[str] = frozenset()


class ModelFamily(Protocol):
    """The engine's side of a family: the `FAMILY` of the module that has its id."""

    @property
    def facts(self) -> Family:
        """Its declaration in the catalog."""

    @property
    def builders(self) -> Mapping[str, Builder]:
        """By component with weights: from its configuration to a module (on meta).

        The modules have the interfaces of diffusers' and transformers' classes, as far as their kind is used: a
        `config`, `encode` and `decode` of a VAE, `get_input_embeddings` of a text encoder.
        """

    @property
    def zeroes_empty_negative(self) -> bool:
        """An empty negative prompt is all zeros instead of encoded."""

    def read_file(self, file: Path, header: Mapping[str, TensorInfo]) -> dict[str, FileComponent]:
        """The components that a checkpoint's file holds: always the denoiser; text encoders and a VAE may be elsewhere.

        Raises:
            ModelProblem: it lacks the denoiser, or a part of a component; names the file.
        """

    def read_vae_file(self, file: Path, header: Mapping[str, TensorInfo]) -> FileComponent:
        """A VAE that is one file.

        Raises:
            ModelProblem: it is not one.
        """

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int, evaluate: Evaluate) -> Encoded:
        """One chunk: token ids (1, tokens) for each text encoder -> embeddings.

        Args:
            onload: Of the bundle.
            evaluate: Of the bundle, by components' names; a family may leave it alone.
        """

    def added(self, pooled: Tensor | None, told: SizeConditioning, is_guided: bool) -> dict[str, Tensor] | None:
        """Further inputs of the denoiser.

        Args:
            pooled: (batch, width); the first row is the negative prompt's where there is guidance.
            told: With nothing left open.
        """

    def predict(
        self, onload: Onload, dtype: torch.dtype, *, in_float32: bool = False, evaluate: Evaluate | None = None
    ) -> "Predict":
        """The denoiser as the loop calls it: (batch, C, h, w) float32 in, a prediction of that shape out.

        Args:
            onload: Of the bundle; called at each evaluation, since the denoiser may have been offloaded.
            in_float32: Compute in full precision whatever the dtype of the weights: slow, for models that overflow in
                half.
            evaluate: Of the denoiser: the bundle's, where something else may stand in for it; with in_float32 one that
                evaluates the modules themselves. A family without convolutions may leave it alone.
        """


def hidden_layer(hidden_states: tuple[Tensor, ...], from_end: int) -> Tensor:
    """The layer that clip skip selects, (1, tokens, width); from_end 1 is the last.

    Raises:
        InvalidRecipe: the text encoder has fewer layers.
    """
    layers = len(hidden_states) - 1
    if from_end > layers:
        raise InvalidRecipe(
            f"Clip skip leaves no layer: this model's text encoder has {layers}.", "Use clip skip 1.", field="clip_skip"
        )
    return hidden_states[-from_end]
