"""LoRAs known again by the hashes of other programs, and never by the hash of nothing."""

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest

from contract.recipe import RecipeDraft
from studio.library.other_hashes import OtherHashes, hash_behind_header, is_hash_of_nothing, quick_hashes
from studio.studio import Studio
from tests.studio.conftest import ME, run
from tests.support.images import png

NOTHING = hashlib.sha256(b"").hexdigest()


def lora(path: Path, seed: int = 1, **metadata: str) -> str:
    """A LoRA's file of a megabyte and a half; returns A1111's hash of it (AutoV3)."""
    data = hashlib.shake_128(bytes([seed])).digest(1_600_000)
    half = len(data) // 2
    names = {
        f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_{side}.weight": (begin, end)
        for side, begin, end in (("down", 0, half), ("up", half, len(data)))
    }
    shapes = {"down": [half // 4 // 768, 768], "up": [half // 4 // 8, 8]}
    used = 0
    header: dict[str, object] = {"__metadata__": metadata}
    for name in names:
        shape = shapes["down" if "down.weight" in name else "up"]
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [used, used + size]}
        used += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[:used])
    return hashlib.sha256(data[:used]).hexdigest()


def draft_of(studio: Studio, tags: str, pairs: str) -> tuple[str, tuple[str, ...]]:
    text = f"a barn {tags}\nSteps: 4, Sampler: Euler, Seed: 1, Size: 64x64, {pairs}"
    found = studio.read_recipe(png(texts={"parameters": text}), ME)
    assert found.draft is not None
    studio.submit(RecipeDraft.model_validate_json(json.dumps(found.draft)), ME)
    return str(found.draft["prompt"]), found.notices


def test_a_lora_is_found_by_every_hash_that_others_know_it_by(studio: Studio) -> None:
    file = studio.settings.models_dir / "loras" / "mine.safetensors"
    auto = lora(file, sshs_model_hash="ab" * 32, sshs_legacy_hash="12345678")
    old = hashlib.sha256(file.read_bytes()[0x100000:0x110000]).hexdigest()[:8]
    for digits in (auto[:12], auto[:10], "ab" * 6, "ab" * 32, "12345678", old, old.upper()):
        prompt, notices = draft_of(studio, "<lora:theirs:0.8>", f'Lora hashes: "theirs: {digits}"')
        assert prompt == "a barn <lora:mine:0.8>" and notices == (), digits
    hashes = json.dumps({"lora:theirs": auto[:10]})
    assert draft_of(studio, "<lora:theirs:0.8>", f"Hashes: {hashes}")[0] == "a barn <lora:mine:0.8>"


def test_the_hash_of_nothing_finds_nothing(studio: Studio) -> None:
    folder = studio.settings.models_dir / "loras"
    lora(folder / "mine.safetensors", sshs_model_hash=NOTHING, sshs_legacy_hash=NOTHING[:8])
    for digits in (NOTHING[:8], NOTHING[:10], NOTHING[:12], NOTHING):
        prompt, notices = draft_of(studio, "<lora:theirs:0.8>", f'Lora hashes: "theirs: {digits}"')
        assert prompt == "a barn" and notices == ("LoRA “theirs” is not here.",)
    assert is_hash_of_nothing("E3B0C442") and not is_hash_of_nothing("e3b0c443")


def test_the_hash_behind_the_header_goes_by_contents_whatever_the_name(tmp_path: Path) -> None:
    for name in ("ink.safetensors", "ink.ckpt", "ink.pt"):
        auto = lora(tmp_path / name)
        assert hash_behind_header(tmp_path / name) == auto


def test_a_small_or_odd_file_has_no_hash_of_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    small.write_bytes(struct.pack("<Q", 2) + b"{}")
    assert hash_behind_header(small) is None and quick_hashes(small) == frozenset()
    other = tmp_path / "small.pt"
    other.write_bytes(b"x" * 50)
    assert hash_behind_header(other) is None and quick_hashes(other) == frozenset()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(struct.pack("<Q", 5_000_000) + b"{}")
    assert hash_behind_header(cut) is None


def test_a_file_that_changed_is_no_longer_known_by_its_old_hash(studio: Studio) -> None:
    file = studio.settings.models_dir / "loras" / "mine.safetensors"
    old = lora(file, 1)
    assert draft_of(studio, "<lora:theirs:1>", f'Lora hashes: "theirs: {old[:12]}"')[0] == "a barn <lora:mine:1>"
    new = lora(file, 2)
    os.utime(file, (1, 1))
    studio.models(fresh=True)
    assert draft_of(studio, "<lora:theirs:1>", f'Lora hashes: "theirs: {old[:12]}"')[0] == "a barn"
    assert draft_of(studio, "<lora:theirs:1>", f'Lora hashes: "theirs: {new[:12]}"')[0] == "a barn <lora:mine:1>"


@pytest.mark.parametrize("digits", ["", "abc", "zzzzzzzzzz", "g" * 12, "a" * 65, "%", "' OR 1=1"])
def test_what_is_no_hash_finds_nothing(studio: Studio, digits: str) -> None:
    assert studio._hash_lookup.find_any(digits) is None
    assert run(studio)


def test_a_search_ends_in_time_and_goes_on_with_the_next(studio: Studio) -> None:
    auto = lora(studio.settings.models_dir / "loras" / "mine.safetensors")
    entries = studio.models(fresh=True)
    ticks = iter(range(10_000))
    hashes = OtherHashes(studio._database, lambda: float(next(ticks)))
    assert hashes.find(auto[:12], entries, seconds=2) is None
    found = hashes.find(auto[:12], entries, seconds=9_000)
    assert found is not None and found.ref.name == "mine"
