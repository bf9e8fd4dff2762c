"""What is declared of a model family, as data; one module of this folder declares each.

How a family's modules are built, prompted and called is in the module of the same name in `engine/families/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from catalog.families.sniffed import NotAMatch, Sniffed
from catalog.files.tensor_names import Tensors

Size = tuple[int, int]  # width, height in pixels
_USUAL_RESCALE = 0.7


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values of a draft that names none. A model's darkroom.json may override each.

    cfg_rescale: The share of CFG rescale (`catalog.guidance`); 0 has none.
    """

    sampler: str = "euler_a"
    schedule: str = "automatic"
    steps: int = 20
    guidance: float = 7.0
    width: int = 512
    height: int = 512
    cfg_rescale: float = 0.0


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """The latents of a family's VAE.

    Attributes:
        channels: C of the latents (B, C, H/factor, W/factor).
        factor: Pixels of an image per latent, on each side.
        scale: What encoded latents are multiplied by, so that they have unit variance.
        shift: What is taken from them before.
        overflows_half: The VAE's activations exceed float16.
    """

    channels: int = 4
    factor: int = 8
    scale: float = 0.18215
    shift: float = 0.0
    overflows_half: bool = False

    @property
    def variants(self) -> Mapping[int, str]:
        """Input channels of a denoiser of these latents -> what a checkpoint works from.

        Beside the noisy latents: an init image's and a mask, an init image's, or its depth.
        """
        return {
            self.channels: "text",
            2 * self.channels + 1: "inpaint",
            2 * self.channels: "edit",
            self.channels + 1: "depth",
        }


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder, and where single files have it.

    Attributes:
        prefix: Of its keys, before `transformer.` (transformers' names) or `model.` (OpenCLIP's).
        is_open: Trained by OpenCLIP; else OpenAI's CLIP.
        is_projecting: Its pooled output is used.
    """

    component: str
    prefix: str
    is_open: bool = False
    is_projecting: bool = False

    @property
    def key_prefix(self) -> str:
        """The prefix of its keys in the files that its trainers published."""
        return self.prefix + ("model.transformer." if self.is_open else "transformer.")

    @property
    def prefixes(self) -> tuple[str, str]:
        """Those that its keys may have in a checkpoint's file."""
        return f"{self.prefix}transformer.", f"{self.prefix}model."

    @property
    def marks(self) -> tuple[str, str]:
        """Prefixes by which a checkpoint's file shows that it has this text encoder inside."""
        return f"{self.prefix}transformer.", self.key_prefix

    @property
    def file(self) -> str:
        """What its file is called where people keep it by itself."""
        if not self.is_open:
            return "clip_l.safetensors"
        return "clip_g.safetensors" if self.is_projecting else "clip_h.safetensors"

    @property
    def tokenizer(self) -> str:
        """The folder of its tokenizer in diffusers' layout."""
        return self.component.replace("text_encoder", "tokenizer")


@dataclass(frozen=True, slots=True)
class T5Encoder:
    """A T5 that reads whole prompts beside the other text encoders, where a checkpoint has one.

    Attributes:
        key_prefix: Of its keys in single files.
        tokenizers: Folders that hold its tokenizer, in diffusers' layout or beside a file; the first that is there.
        tokens: It reads, the end included; shorter prompts are padded to as many.
    """

    component: str
    key_prefix: str
    tokenizers: tuple[str, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class UNet:
    """A U-Net, by what its tensors show and what they don't.

    Attributes:
        prompt_width: Of the prompt embeds that its cross-attentions read.
        proj_in_dimensions: Of the weight before its attentions: 4 of a convolution, 2 of a linear layer.
        channels: Of its first block.
        heads: Of each attention; None where all heads have 64 channels.
        takes_size: The image's size and pooled prompt embeds are further inputs.
        takes_score: So is an aesthetic score, in the place of the size that is aimed at.
        is_deep: Its attentions have several transformer blocks.
        upcasts_attention: Attention overflows in float16.
    """

    prompt_width: int
    proj_in_dimensions: int
    channels: int = 320
    heads: int | None = None
    takes_size: bool = False
    takes_score: bool = False
    is_deep: bool = False
    upcasts_attention: bool = False


@dataclass(frozen=True, slots=True)
class T2IAdapterShape:
    """T2I-Adapters of a family.

    Attributes:
        downscale: Pixel unshuffle before the first layer.
        full_type: diffusers' `adapter_type` of those that are not light.
    """

    downscale: int
    full_type: str


@dataclass(frozen=True, slots=True)
class Telltale:
    """A tensor that tells v-prediction from epsilon where nothing else does: the deviation of its values.

    Attributes:
        tensor: Its key in a checkpoint.
        least_v: Its standard deviation is larger in checkpoints that predict v.
    """

    tensor: str
    least_v: float


@dataclass(frozen=True, slots=True)
class TransformerLora:
    """How LoRAs of a transformer are recognized.

    Attributes:
        fragments: Any of these in a layer's name, which has underscores for dots.
        widths: Of its joint attentions, where layers have the names that several families share.
    """

    fragments: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """The header of a file that may be a checkpoint, as each family is asked about it.

    Attributes:
        denoiser: The tensors of its U-Net or transformer, without the prefix that files with other components have.
        is_bare: There is no such prefix: the file has no other components.
        known_widths: The prompt widths of all families.
        encoder_prefixes: Those key prefixes of all families' text encoders that the file has.
    """

    tensors: Tensors
    metadata: Mapping[str, str]
    denoiser: Tensors
    is_bare: bool
    known_widths: frozenset[int]
    encoder_prefixes: frozenset[str]


Claim = Callable[["Family", CheckpointHeader], Sniffed]  # raises NotAMatch
NO_SIZES: Mapping[str, Size] = MappingProxyType({})


def claim_by_tensors(family: "Family", header: CheckpointHeader) -> Sniffed:
    """Claim a file that has all the tensors that the family names."""
    if family.tensors and family.tensors <= header.tensors.keys():
        return Sniffed("checkpoint", family.id)
    raise NotAMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The declaration of one family.

    Attributes:
        claim: Claims a checkpoint's header, or raises NotAMatch; a file of this family that can't be used is claimed
            with its problem.
        tensors: Those that only its checkpoints have, where their names are all there is to a claim.
        refines: The family whose images its checkpoints finish: they begin none well, and are nobody's first choice.
        sizes, defaults: Of checkpoints that give none themselves.
        by_prediction: Sizes and defaults of its checkpoints with another prediction type than the usual one.
        predictions: By variant: the prediction type of a checkpoint that names none; epsilon where none is given.
        telltale: Tells its prediction types apart.
        token_limit: Tokens a chunk of the prompt holds, begin and end included.
        layer_read: The layer of its text encoders, counted from the last, that its checkpoints are trained on.
        by_detail: Defaults of its checkpoints that are of a kind of their own, by `Sniffed.detail`.
        detail_of: Their kind by the configuration of the denoiser in a folder.
        flow_shift: How far the noise levels of a rectified flow are shifted towards noise; 0 of other models.
        text_encoders: In the order of their tokenizers.
        t5: What reads whole prompts beside them.
        conditioning: Tensors of the denoiser whose inputs are as wide as the pooled prompt embeds and as the prompt
            embeds, by original and by diffusers' names; of families whose text encoders may be files of their own.
        skipped_layers: Those that skip-layer guidance leaves out; none where it is not for this family.
        sigma_table: Which of a schedule's tables is its own (`catalog/schedules.py`).
        embedding_width: Of textual inversions with vectors for one text encoder.
        embedding_keys: Names that only its textual inversions have.
        metadata_names: Beginnings of what trainers and other programs call it; the longest of all families counts.
        pipeline, transformer: Beginning of diffusers' pipeline class, and its transformer class, where these tell.
        claims_control: Whether a header is that of one of its ControlNets, where its transformer shows in it.
        controlnet: What such a ControlNet is, by its header or its folder's configuration; None where none is run.
        controlnet_detail: By the detail of a checkpoint, that of the ControlNets that fit it.
    """

    id: str
    label: str
    claim: Claim = claim_by_tensors
    tensors: frozenset[str] = frozenset()
    runs: bool = True
    refines: str = ""
    sizes: Mapping[str, Size] = field(default_factory=lambda: NO_SIZES)
    defaults: Defaults = Defaults()
    by_prediction: Mapping[str, tuple[Mapping[str, Size], Defaults]] = field(default_factory=dict)
    predictions: Mapping[str, str] = field(default_factory=dict)
    telltale: Telltale | None = None
    latents: LatentFormat = LatentFormat()
    token_limit: int = 77
    layer_read: int = 1
    by_detail: Mapping[str, Defaults] = field(default_factory=dict)
    detail_of: Callable[[Mapping[str, object]], str] | None = None
    flow_shift: float = 0.0
    text_encoders: tuple[TextEncoder, ...] = ()
    t5: T5Encoder | None = None
    conditioning: tuple[tuple[str, str], ...] = ()
    skipped_layers: tuple[int, ...] = ()
    unet: UNet | None = None
    t2i_adapter: T2IAdapterShape | None = None
    sigma_table: str = "sd"
    embedding_width: int = 0
    embedding_keys: frozenset[str] = frozenset()
    metadata_names: tuple[str, ...] = ()
    pipeline: str = ""
    transformer: str = ""
    transformer_lora: TransformerLora = TransformerLora()
    claims_control: Callable[[Tensors], bool] | None = None
    controlnet: Callable[[Tensors | None, Mapping[str, object]], Sniffed] | None = None
    controlnet_detail: Callable[[str], str] | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """The components with weights that each of its checkpoints has."""
        return (self.denoiser, "vae", *(encoder.component for encoder in self.text_encoders))

    @property
    def denoiser(self) -> str:
        """The component that predicts: a U-Net, or a transformer."""
        return "unet" if self.unet is not None else "transformer"

    @property
    def encoder_files(self) -> str:
        """What the files of its text encoders are called, in words."""
        return " and ".join(encoder.file for encoder in self.text_encoders)

    @property
    def takes_second_prompt(self) -> bool:
        """Whether a second text encoder may read a prompt of its own."""
        return len(self.text_encoders) > 1

    def usual_prediction(self, variant: str = "text") -> str:
        """The prediction type of a checkpoint that names none."""
        return self.predictions.get(variant, "epsilon")

    def usual_for(self, variant: str, prediction: str, detail: str = "") -> tuple[Mapping[str, Size], Defaults]:
        """Sizes and defaults of a checkpoint that gives none itself; `prediction` is "" where it names none."""
        prediction = prediction or self.usual_prediction(variant)
        usual = (self.sizes, self.by_detail.get(detail, self.defaults))
        return self.by_prediction.get(prediction, usual)

    def with_rescale(self, defaults: Defaults, variant: str, prediction: str, *, zero_snr: bool) -> Defaults:
        """Defaults of a checkpoint that is trained to zero SNR, or to v-prediction where its family usually isn't.

        Source: Lin et al. 2023 (arXiv 2305.08891), section 3.4, and what is advised for NoobAI's v-prediction models.
        """
        is_unusual = prediction == "v_prediction" and prediction != self.usual_prediction(variant)
        return replace(defaults, cfg_rescale=_USUAL_RESCALE) if zero_snr or is_unusual else defaults


def three_sizes(square: Size, wide: Size, tall: Size) -> Mapping[str, Size]:
    """Sizes by the names that the page shows."""
    return MappingProxyType({"square": square, "wide": wide, "tall": tall})
