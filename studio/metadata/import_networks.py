"""LoRAs, hypernetworks and the VAE that a found recipe names: which of them are here, under which name.

One that has another name here is recognized by its hash. Missing ones are left out with a notice, also their tags in
prompts, since the form could not be submitted with them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from catalog.detect.entries import last_part
from catalog.families import OLDEST, SHARED_VAE
from catalog.models import ModelEntry
from contract.recipe import HypernetworkUse, LoraUse, ModelKind, ModelRef, Recipe
from studio.library.model_list import ModelList
from studio.library.other_hashes import is_hash_of_nothing
from studio.metadata.infotext import parse_hashes
from studio.resolve.loras import KINDS
from studio.resolve.model_finder import LABELS, WithHash

_TAG = re.compile(
    r"(?P<space>\s?)<(?P<kind>lora|lyco|hypernet):(?P<name>[^<>:\n]{1,300})(?P<rest>(?::[^<>\n]{0,800})?)>",
    re.IGNORECASE,
)
_RESOURCES, _WEIGHTS = "Civitai resources", "Lora weights"
_WEIGHTED = re.compile(r"\s*([^:]{1,300}): (-?\d(?:\.\d{1,8})?)(?:,|$)")
_RESOURCE_LORAS = frozenset({"lora", "locon", "lycoris", "dora"})
_MAX_RESOURCES = 32
_STRENGTH = re.compile(r"\d{1,2}(\.\d{1,6})?")
_NO_VAE = frozenset({"none", "automatic", "default", "default (model)"})


@dataclass(slots=True)
class FoundNetworks:
    """Finds the networks of a recipe, and collects those that are missing.

    Attributes:
        unknown: Names of missing ones.
        notices: A sentence for each.
    """

    models: ModelList
    with_hash: WithHash
    unknown: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def rename_in(self, draft: dict[str, Any], recipe: Recipe) -> None:
        """Replace refs by names in the draft of a Darkroom recipe; embeddings are found by the prompts' words."""
        draft.pop("embeddings", None)
        lists: list[tuple[dict[str, Any], str, Sequence[LoraUse | HypernetworkUse]]] = [
            (draft, "loras", recipe.loras),
            (draft, "hypernetworks", recipe.hypernetworks),
        ]
        if recipe.regions:
            for fields, region in zip(draft["regions"]["regions"], recipe.regions.regions, strict=True):
                lists.append((fields, "loras", region.loras))
        for holder, part, uses in lists:
            kept = []
            for fields, use in zip(holder.get(part, ()), uses, strict=True):
                name = self._name_here(use.model)
                if name:
                    kept.append(fields | {"model": name})
            if kept:
                holder[part] = kept
            else:
                holder.pop(part, None)
        if recipe.vae:
            draft["vae"] = self._name_here(recipe.vae)
        if not draft.get("vae", True):
            del draft["vae"]

    def rename_in_prompt(self, prompt: str, pairs: Mapping[str, str]) -> str:
        """A prompt in which LoRAs, hypernetworks and embeddings have the names that they have here.

        The tag of one that is not here is taken out.
        """
        lora_hashes = parse_hashes(pairs.get("Lora hashes", ""))
        for name, digits in self.hashes(pairs).items():
            if name.startswith("lora:"):
                lora_hashes[name.removeprefix("lora:")] = digits

        def rename(match: re.Match[str]) -> str:
            kind, name = KINDS[match["kind"].lower()], match["name"].strip()
            found = self._find(kind, name, lora_hashes.get(name) if kind == "lora" else None)
            if found is None:
                self._miss(kind, name)
                return ""
            if self.models.find(name, kind) == found:
                return match[0]
            return f"{match['space']}<{match['kind']}:{found.ref.name}{match['rest']}>"

        prompt = _TAG.sub(rename, prompt)
        for name, digits in parse_hashes(pairs.get("TI hashes", "")).items():
            word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
            if not word.search(prompt) or self.models.find(name, "embedding"):
                continue
            found = self._find("embedding", name, digits)
            if found is None:
                self._miss("embedding", name)
            else:
                prompt = word.sub(last_part(found.ref.name).replace("\\", ""), prompt)
        return prompt

    @staticmethod
    def hashes(pairs: Mapping[str, str]) -> dict[str, str]:
        """The table that Civitai's extension writes: "model", "vae", "lora:name", "embed:name"."""
        table = _parse_json(pairs.get("Hashes", ""))
        if not isinstance(table, dict):
            return {}
        return {name: digits for name, digits in table.items() if isinstance(digits, str)}

    def resource_model(self, pairs: Mapping[str, str]) -> str | None:
        """The checkpoint among the resources that Civitai names."""
        for resource in _resources(pairs):
            if resource.kind in ("checkpoint", "model"):
                return resource.title
        return None

    @property
    def used_keys(self) -> frozenset[str]:
        """Keys of the infotext that are read here."""
        return frozenset({_RESOURCES, _WEIGHTS})

    def fields_of(self, pairs: Mapping[str, str]) -> dict[str, object]:
        """A VAE, a hypernetwork as older programs wrote it, and LoRAs beside the prompt, as fields of a draft."""
        wanted: dict[str, object] = {}
        vae = pairs.get("VAE", "None")
        if vae.lower() not in _NO_VAE and not vae.lower().startswith("use same"):
            name = self._name_here(
                ModelRef(kind="vae", name=vae[:300] or "?", family=SHARED_VAE), pairs.get("VAE hash")
            )
            if name:
                wanted["vae"] = name
        hypernetwork = pairs.get("Hypernet", "").partition("(")[0].strip()
        if hypernetwork:
            name = self._name_here(ModelRef(kind="hypernetwork", name=hypernetwork[:300], family=OLDEST))
            strength = pairs.get("Hypernet strength", "1")
            weight = float(strength) if _STRENGTH.fullmatch(strength) else 1.0
            if name:
                wanted["hypernetworks"] = [{"model": name, "weight": weight}]
        loras: list[dict[str, object]] = []
        # As Fooocus lists them, beside A1111's hashes.
        hashes = parse_hashes(pairs.get("Lora hashes", ""))
        for name, weight in _WEIGHTED.findall(pairs.get(_WEIGHTS, "")):
            found = self._find("lora", name, hashes.get(name))
            if found is None:
                self._miss("lora", name)
            else:
                loras.append({"model": found.ref.name, "weight": float(weight)})
        for resource in _resources(pairs):
            if resource.kind in _RESOURCE_LORAS:
                found = self._find("lora", resource.title, None) or self._find("lora", resource.version, None)
                if found is None:
                    self._miss("lora", resource.title)
                else:
                    loras.append({"model": found.ref.name, "weight": resource.weight})
        if loras:
            wanted["loras"] = loras
        return wanted

    def _name_here(self, ref: ModelRef, sha256: str | None = None) -> str | None:
        entry = self._find(ref.kind, ref.name, sha256 or ref.sha256)
        if entry is None:
            self._miss(ref.kind, ref.name)
            return None
        return entry.ref.name

    def _find(self, kind: ModelKind, name: str, sha256: str | None) -> ModelEntry | None:
        found = None
        if name:
            stem = re.sub(r"\.(safetensors|ckpt|pt|bin)$", "", name)
            found = self.models.find(name, kind) or self.models.find(stem, kind)
        if found is None and sha256 and not is_hash_of_nothing(sha256):
            found = self.with_hash(sha256)
        if found is None or found.ref.kind != kind:
            return None
        return found

    def _miss(self, kind: ModelKind, name: str) -> None:
        if name not in self.unknown:
            self.unknown.append(name[:300])
            rest = "; the model's own is used" if kind == "vae" else ""
            self.notices.append(f"{LABELS[kind]} “{name[:80]}” is not here{rest}.")


class _Resource(NamedTuple):
    """A model that Civitai names."""

    kind: str
    title: str
    version: str
    weight: float


def _resources(pairs: Mapping[str, str]) -> Iterator[_Resource]:
    table = _parse_json(pairs.get(_RESOURCES, ""))
    for entry in table[:_MAX_RESOURCES] if isinstance(table, list) else ():
        if not isinstance(entry, dict):
            continue
        weight = entry.get("weight", 1)
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool) and -10 <= weight <= 10
        title = str(entry.get("modelName", ""))[:300]
        version = str(entry.get("modelVersionName", ""))[:300]
        kind = str(entry.get("type", "")).lower()
        yield _Resource(kind, title or version, version, float(weight) if is_number else 1.0)


def _parse_json(text: str) -> object:
    """A JSON value; None if the text is no JSON."""
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
