"""LoRAs, hypernetworks and the VAE that a found recipe names: which of them are here, under which name.

One that goes by another name here is known again by its hash. What is not here is named, and left out where a form
would fail on it; a tag in a prompt stays as it was written.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.models import ModelEntry
from contract.recipe import ModelKind, ModelRef, Recipe
from studio.infotext import parse_hashes
from studio.model_finder import WithHash
from studio.model_list import ModelList
from studio.resolve_loras import KINDS, LABELS

_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>:\n]{1,300})", re.IGNORECASE)
_NO_VAE = frozenset({"none", "automatic"})


@dataclass(slots=True)
class FoundNets:
    """Finds them, and remembers what was not found.

    Attributes:
        unknown: Names of what is not here.
        notices: A sentence for each.
    """

    models: ModelList
    with_hash: WithHash
    unknown: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def put_own(self, draft: dict[str, Any], recipe: Recipe) -> None:
        """Names in place of refs in the draft of a recipe of ours; embeddings are found by the prompts' words."""
        draft.pop("embeddings", None)
        for part in ("loras", "hypernetworks"):
            uses = [(one, self._named(use.model)) for one, use in zip(draft.get(part, ()), getattr(recipe, part),
                                                                     strict=True)]
            if uses:
                draft[part] = [one | {"model": name} for one, name in uses if name]
        if recipe.vae:
            draft["vae"] = self._named(recipe.vae)
        for part in ("loras", "hypernetworks", "vae"):
            if not draft.get(part, True):
                del draft[part]

    def with_known_tags(self, prompt: str, pairs: Mapping[str, str]) -> str:
        """A prompt in whose tags files that have another name here are called by it."""
        hashes = parse_hashes(pairs.get("Lora hashes", ""))

        def renamed(match: re.Match[str]) -> str:
            kind, name = KINDS[match[1].lower()], match[2].strip()
            found = self._find(kind, name, hashes.get(name) if kind == "lora" else None)
            if found is None:
                self._miss(kind, name)
                return match[0]
            here = self.models.find(name, kind)
            return match[0] if here == found else f"<{match[1]}:{found.ref.name}"

        return _TAG.sub(renamed, prompt)

    def of_pairs(self, pairs: Mapping[str, str]) -> dict[str, object]:
        """A VAE, and a hypernetwork as older programs wrote it, as fields of a draft."""
        wanted: dict[str, object] = {}
        vae = pairs.get("VAE", "None")
        if vae.lower() not in _NO_VAE:
            name = self._named(ModelRef(kind="vae", name=vae[:300] or "?", family="sd"), pairs.get("VAE hash"))
            wanted |= {"vae": name} if name else {}
        if net := pairs.get("Hypernet", "").partition("(")[0].strip():
            name = self._named(ModelRef(kind="hypernetwork", name=net[:300], family="sd1"))
            strength = pairs.get("Hypernet strength", "1")
            weight = float(strength) if re.fullmatch(r"\d{1,2}(\.\d{1,6})?", strength) else 1.0
            wanted |= {"hypernetworks": [{"model": name, "weight": weight}]} if name else {}
        return wanted

    def _named(self, ref: ModelRef, sha256: str | None = None) -> str | None:
        entry = self._find(ref.kind, ref.name, sha256 or ref.sha256)
        if entry is None:
            self._miss(ref.kind, ref.name)
        return entry.ref.name if entry else None

    def _find(self, kind: ModelKind, name: str, sha256: str | None) -> ModelEntry | None:
        stem = re.sub(r"\.(safetensors|ckpt|pt)$", "", name)
        found = self.models.find(name, kind) or self.models.find(stem, kind)
        if found is None and sha256:
            found = self.with_hash(sha256)
        return found if found and found.ref.kind == kind else None

    def _miss(self, kind: ModelKind, name: str) -> None:
        if name not in self.unknown:
            self.unknown.append(name[:300])
            rest = "; the model's own is used" if kind == "vae" else ""
            self.notices.append(f"{LABELS[kind]} “{name[:80]}” is not here{rest}.")
