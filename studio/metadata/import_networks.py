"""LoRAs, hypernetworks and the VAE that a found recipe names: which of them are here, under which name.

One that goes by another name here is known again by its hash. What is not here is named and left out, since a form
would fail on it; a tag in a prompt too.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.detect.entries import last_part
from catalog.models import ModelEntry
from contract.recipe import ModelKind, ModelRef, Recipe
from studio.library.model_list import ModelList
from studio.library.other_hashes import is_hash_of_nothing
from studio.metadata.infotext import parse_hashes
from studio.resolve.loras import KINDS, LABELS
from studio.resolve.model_finder import WithHash

_TAG = re.compile(
    r"(?P<space>\s?)<(?P<kind>lora|lyco|hypernet):(?P<name>[^<>:\n]{1,300})(?P<rest>(?::[^<>\n]{0,800})?)>",
    re.IGNORECASE,
)
_RESOURCES, _WEIGHTS = "Civitai resources", "Lora weights"
_WEIGHED = re.compile(r"\s*([^:]{1,300}): (-?\d(?:\.\d{1,8})?)(?:,|$)")
_RESOURCE_LORAS = frozenset({"lora", "locon", "lycoris", "dora"})
_MAX_RESOURCES = 32
_NO_VAE = frozenset({"none", "automatic", "default", "default (model)"})


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
            uses = [
                (one, self._named(use.model))
                for one, use in zip(draft.get(part, ()), getattr(recipe, part), strict=True)
            ]
            if uses:
                draft[part] = [one | {"model": name} for one, name in uses if name]
        if recipe.vae:
            draft["vae"] = self._named(recipe.vae)
        for part in ("loras", "hypernetworks", "vae"):
            if not draft.get(part, True):
                del draft[part]

    def with_known_names(self, prompt: str, pairs: Mapping[str, str]) -> str:
        """A prompt in which LoRAs, hypernetworks and embeddings that have another name here are called by it.

        The tag of one that is not here is taken out.
        """
        hashes = parse_hashes(pairs.get("Lora hashes", "")) | {
            name.partition(":")[2]: digits for name, digits in self.hashes(pairs).items() if name.startswith("lora:")
        }

        def renamed(match: re.Match[str]) -> str:
            kind, name = KINDS[match["kind"].lower()], match["name"].strip()
            found = self._find(kind, name, hashes.get(name) if kind == "lora" else None)
            if found is None:
                self._miss(kind, name)
                return ""
            here = self.models.find(name, kind)
            return match[0] if here == found else f"{match['space']}<{match['kind']}:{found.ref.name}{match['rest']}>"

        return self._with_embeddings(_TAG.sub(renamed, prompt), pairs)

    def _with_embeddings(self, prompt: str, pairs: Mapping[str, str]) -> str:
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
        table = _json(pairs.get("Hashes", ""))
        items = table.items() if isinstance(table, dict) else ()
        return {name: digits for name, digits in items if isinstance(digits, str)}

    def resource_model(self, pairs: Mapping[str, str]) -> str | None:
        """The checkpoint among the resources that Civitai names."""
        return next((name for kind, name, _, _ in _resources(pairs) if kind in ("checkpoint", "model")), None)

    @property
    def used_keys(self) -> frozenset[str]:
        """Keys whose values were looked at here."""
        return frozenset({_RESOURCES, _WEIGHTS})

    def of_pairs(self, pairs: Mapping[str, str]) -> dict[str, object]:
        """A VAE, and a hypernetwork as older programs wrote it, as fields of a draft."""
        wanted: dict[str, object] = {}
        vae = pairs.get("VAE", "None")
        vae = "None" if vae.lower().startswith("use same") else vae
        if vae.lower() not in _NO_VAE:
            name = self._named(ModelRef(kind="vae", name=vae[:300] or "?", family="sd"), pairs.get("VAE hash"))
            wanted |= {"vae": name} if name else {}
        if net := pairs.get("Hypernet", "").partition("(")[0].strip():
            name = self._named(ModelRef(kind="hypernetwork", name=net[:300], family="sd1"))
            strength = pairs.get("Hypernet strength", "1")
            weight = float(strength) if re.fullmatch(r"\d{1,2}(\.\d{1,6})?", strength) else 1.0
            wanted |= {"hypernetworks": [{"model": name, "weight": weight}]} if name else {}
        loras = self._weighed(pairs)
        for kind, title, version, weight in _resources(pairs):
            if kind in _RESOURCE_LORAS:
                found = self._find("lora", title, None) or self._find("lora", version, None)
                loras += [{"model": found.ref.name, "weight": weight}] if found else []
                if found is None:
                    self._miss("lora", title)
        return wanted | ({"loras": loras} if loras else {})

    def _weighed(self, pairs: Mapping[str, str]) -> list[dict[str, object]]:
        """LoRAs as Fooocus lists them, beside A1111's hashes."""
        hashes = parse_hashes(pairs.get("Lora hashes", ""))
        loras: list[dict[str, object]] = []
        for name, weight in _WEIGHED.findall(pairs.get(_WEIGHTS, "")):
            found = self._find("lora", name, hashes.get(name))
            loras += [{"model": found.ref.name, "weight": float(weight)}] if found else []
            if found is None:
                self._miss("lora", name)
        return loras

    def _named(self, ref: ModelRef, sha256: str | None = None) -> str | None:
        entry = self._find(ref.kind, ref.name, sha256 or ref.sha256)
        if entry is None:
            self._miss(ref.kind, ref.name)
        return entry.ref.name if entry else None

    def _find(self, kind: ModelKind, name: str, sha256: str | None) -> ModelEntry | None:
        stem = re.sub(r"\.(safetensors|ckpt|pt|bin)$", "", name)
        found = (self.models.find(name, kind) or self.models.find(stem, kind)) if name else None
        if found is None and sha256 and not is_hash_of_nothing(sha256):
            found = self.with_hash(sha256)
        return found if found and found.ref.kind == kind else None

    def _miss(self, kind: ModelKind, name: str) -> None:
        if name not in self.unknown:
            self.unknown.append(name[:300])
            rest = "; the model's own is used" if kind == "vae" else ""
            self.notices.append(f"{LABELS[kind]} “{name[:80]}” is not here{rest}.")


def _resources(pairs: Mapping[str, str]) -> Iterator[tuple[str, str, str, float]]:
    """Kind, title, version and weight of what Civitai names."""
    table = _json(pairs.get(_RESOURCES, ""))
    for one in table[:_MAX_RESOURCES] if isinstance(table, list) else ():
        if isinstance(one, dict):
            weight = one.get("weight", 1)
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool) and -10 <= weight <= 10
            title, version = (str(one.get(key, ""))[:300] for key in ("modelName", "modelVersionName"))
            yield str(one.get("type", "")).lower(), title or version, version, float(weight) if is_number else 1.0


def _json(text: str) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
