"""Whatever stands in one model's files harms that model alone: every file of every kind, damaged in every way.

The damages are drawn with fixed seeds. A list must come out, with everything in it that can still be named, the
starter usable; nothing may need the boundary in `models.py`, which is for what this test forgot.
"""

import json
import logging
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from catalog.models import ModelEntry, Scanner, describe, scan
from contract.errors import StudioError
from contract.recipe import RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.support import layouts
from tests.support.model_folders import make_controlnet, make_lora, make_model, write_safetensors

HOSTILE: tuple[object, ...] = (
    None,
    [],
    {},
    "",
    "abc",
    0,
    -1,
    10**400,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
    True,
    False,
    [4],
    [None, None],
    ["diffusers", None],
    [[[]]],
    {"a": {}},
    "\ud800",
    "\x1b[31m\x00\n",
    "../../etc/passwd",
    "~nouser/x",
    "é" * 5000,
    "/",
    ["x"] * 1000,
    [1, 2, 3],
    {"": ""},
    -(2**63),
    4.0,
    "4",
    2**31,
    [10**30, -5],
)
DEEP = "[" * 50_000
RAW: tuple[bytes, ...] = (
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    '{"é": "é"}'.encode("latin-1"),
    b"null",
    b"[]",
    b'"x"',
    b"5",
    b"{",
    b'{"a": 1, "a": 2}',
    b"NaN",
    b"\x00" * 64,
    b"\x80\x02}q\x00.",
    b"PK\x03\x04",
    DEEP.encode(),
    b'{"a":' * 20_000,
    b'{"a": 1' + b"0" * 6000 + b"}",
    bytes(range(256)),
    b"version https://git-lfs.github.com/spec/v1\n",
    b"<!doctype html>",
    b'{"in_channels": 4}\n\n}',
)


def _values(tree: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield path
    if isinstance(tree, dict):
        for key in tree:
            yield from _values(tree[key], (*path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _values(value, (*path, number))


def _mutated(tree: object, dice: random.Random) -> str:
    """A JSON text with one value of it, or its whole, become something else."""
    tree = json.loads(json.dumps(tree))
    path = dice.choice(list(_values(tree)))
    value = dice.choice(HOSTILE)
    if not path:
        return json.dumps(value) if not isinstance(value, int) or abs(value) < 10**300 else "1" + "0" * 5000
    owner = tree
    for step in path[:-1]:
        owner = owner[step]  # type: ignore[index]
    owner[path[-1]] = value  # type: ignore[index]
    text = json.dumps(tree)
    return text.replace("[[[]]]", DEEP + "]" * len(DEEP)) if dice.random() < 0.5 else text


def _nodes(dice: random.Random) -> Callable[[Path], None]:
    """Something that is no file in the place of one."""

    def folder(path: Path) -> None:
        path.mkdir()

    def itself(path: Path) -> None:
        path.symlink_to(path.name)

    def dangling(path: Path) -> None:
        path.symlink_to("gone")

    def away(path: Path) -> None:
        path.symlink_to("/etc/passwd")

    def endless(path: Path) -> None:
        path.symlink_to("/dev/zero")

    def pipe(path: Path) -> None:
        os.mkfifo(path)

    def locked(path: Path) -> None:
        path.write_text("{}")
        path.chmod(0)

    return dice.choice((folder, itself, dangling, away, endless, pipe, locked, lambda path: None))


def _damage(path: Path, dice: random.Random) -> None:
    data = path.read_bytes()
    way = dice.random()
    is_json = path.suffix in (".json", ".info")
    if is_json and way < 0.6:
        path.write_text(_mutated(json.loads(data), dice))
    elif path.suffix == ".safetensors" and way < 0.6:
        length = int.from_bytes(data[:8], "little")
        text = _mutated(json.loads(data[8 : 8 + length]), dice).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    elif way < 0.8:
        path.write_bytes(dice.choice((*RAW, data[: dice.randrange(len(data) + 1)], data + b"x")))
    else:
        path.unlink()
        _nodes(dice)(path)


def _sdxl(root: Path, name: str) -> Path:
    folder = make_model(root, name)
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.42.1",
        "force_zeros_for_empty_prompt": True,
        **{part: ["diffusers", "Some"] for part in ("unet", "vae", "scheduler")},
        **{part: ["transformers", "Some"] for part in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")},
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "text_encoder_2").mkdir()
    (folder / "tokenizer_2").mkdir()
    half = {"metadata": {"total_size": 4}, "weight_map": {"t": "model-00001-of-00001.safetensors"}}
    write_safetensors(folder / "text_encoder_2" / "model-00001-of-00001.safetensors")
    (folder / "text_encoder_2" / "model.safetensors.index.json").write_text(json.dumps(half))
    (folder / "text_encoder_2" / "config.json").write_text("{}")
    (folder / "vocabulary.txt").write_text("hill\nink")
    (folder / "darkroom.json").write_text(
        json.dumps(
            {
                "title": "X",
                "description": "Y",
                "sizes": {"square": [512, 512], "wide": [768, 512]},
                "examples": ["a hill"],
                "defaults": {
                    "steps": 20,
                    "guidance": 7,
                    "width": 512,
                    "height": 512,
                    "sampler": "euler",
                    "schedule": "karras",
                },
            }
        )
    )
    (folder / "preview.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def _vae(root: Path, name: str) -> Path:
    write_safetensors(root / name / "diffusion_pytorch_model.safetensors")
    (root / name / "config.json").write_text(
        json.dumps(
            {
                "_class_name": "AutoencoderKL",
                "latent_channels": 4,
                "scaling_factor": 0.13025,
                "block_out_channels": [32, 64],
            }
        )
    )
    return root / name


def _lora(root: Path, name: str) -> Path:
    folder = root / name
    path = make_lora(folder, name)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tags = json.dumps({"10_ink": {"ink": 10, "wash": 10}})
    header = {
        **json.loads(data[8 : 8 + length]),
        "__metadata__": {
            "ss_base_model_version": "sd_v1",
            "ss_tag_frequency": tags,
            "modelspec.title": "Ink",
            "modelspec.description": "x",
        },
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    (folder / f"{name}.json").write_text(json.dumps({"activation text": "ink", "notes": "n", "preferred weight": 0.8}))
    (folder / f"{name}.civitai.info").write_text(
        json.dumps(
            {
                "id": 5,
                "trainedWords": ["ink", "wash"],
                "description": "<p>x</p>",
                "model": {"name": "Ink", "description": "d"},
            }
        )
    )
    (folder / f"{name}.txt").write_text("Some words.")
    (folder / f"{name}.yaml").write_text("model:\n  params:\n    parameterization: v\n")
    (folder / f"{name}.preview.png").write_bytes(b"\x89PNG")
    return folder


def _single_files(root: Path, name: str) -> Path:
    """Small headers of other kinds, which shapes of any sort may be put into."""
    folder = root / name
    for kind, shapes in {
        "embedding": {"clip_l": (2, 768), "clip_g": (2, 1280)},
        "control": {"controlnet_cond_embedding.conv_in.weight": (4, 3, 3, 3)},
        "unet": {
            "model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3),
            "model.diffusion_model.x.attn2.to_k.weight": (2, 768),
        },
        "vae": {"encoder.conv_in.weight": (4, 3, 3, 3), "decoder.conv_in.weight": (4, 4, 3, 3)},
        "adapter": {"image_proj.proj.weight": (4, 4), "ip_adapter.1.to_k_ip.weight": (4, 768)},
        "t2i": {"body.0.block1.weight": (4, 4, 3, 3), "conv_in.weight": (4, 64, 3, 3)},
        "hyper": {"768.0.linear.0.weight": (2, 2)},
        "up": {"conv_first.weight": (4, 3, 3, 3)},
    }.items():
        layouts.write(folder / f"{kind}.safetensors", shapes, {"k": "v"})
    (folder / "image_encoder").mkdir(parents=True, exist_ok=True)
    (folder / "image_encoder" / "config.json").write_text(json.dumps({"projection_dim": 4}))
    write_safetensors(folder / "image_encoder" / "model.safetensors")
    return folder


BUILDERS: dict[str, Callable[[Path, str], Path]] = {
    "sdxl": _sdxl,
    "sd1": lambda root, name: make_model(root, name),
    "vae": _vae,
    "lora": _lora,
    "control": lambda root, name: make_controlnet(root, name),
    "files": _single_files,
}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple | frozenset | set):
        for inner in value:
            yield from _texts(inner)


def _check(entries: tuple[ModelEntry, ...]) -> None:
    starter = next(entry for entry in entries if entry.ref.name == "starter")
    assert starter.problem is None and starter.warnings == () and starter.defaults.steps == 4
    for entry in entries:
        table = {name: getattr(entry, name) for name in entry.__slots__ if name not in ("ref", "path", "preview_path")}
        table["defaults"] = asdict(entry.defaults)
        table["sizes"] = dict(entry.sizes)
        for text in _texts(table):
            text.encode()
        assert entry.problem is None or len(entry.problem) < 1000
        assert 1 <= entry.defaults.steps <= 150 and 0 <= entry.defaults.guidance <= 30
        assert all(64 <= side <= 2048 and side % 8 == 0 for side in (entry.defaults.width, entry.defaults.height))


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_harms_its_own_entry_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, seed: int
) -> None:
    dice = random.Random(f"{kind}{seed}")
    root = tmp_path / "models"
    make_model(root, "starter")
    names = []
    for number in range(25):
        folder = BUILDERS[kind](root / "lots", f"m{number}")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        _damage(dice.choice(files), dice)
        names.append(folder.name)
    with caplog.at_level(logging.WARNING):
        entries = scan([root])
        _check(entries)
        for entry in entries:
            _check_described(describe(entry.path, entry.ref.name, entry.ref.kind))
    assert "can't be described" not in caplog.text, caplog.text
    _check_resolved(root, entries)
    if kind in ("sdxl", "sd1"):  # whatever is wrong with a folder, it is listed as long as its index is a file
        listed = {entry.ref.name for entry in entries}
        there = {name for name in names if (root / "lots" / name / "model_index.json").is_file()}
        assert {f"lots/{name}" for name in there} <= listed


def _check_described(entry: ModelEntry) -> None:
    assert entry.problem is None or entry.problem.strip()


def _check_resolved(root: Path, entries: tuple[ModelEntry, ...]) -> None:
    """Each usable checkpoint makes a recipe out of an empty draft, or is refused by name."""
    models = ModelList((root,))
    for entry in entries:
        if entry.ref.kind != "checkpoint":
            continue
        try:
            found = resolve(RecipeDraft(prompt="ink", model=entry.ref.name), Finder(models), max_pixels=2048 * 2048)
            assert found.recipe.steps >= 1 and entry.problem is None
        except StudioError as error:
            assert error.message and (entry.problem or "no VAE" in error.message)


YAMLS: tuple[str, ...] = (
    "base_path: ~nouser/x\n",
    "a:\n  base_path: ~nouser/x\n  loras: l\n",
    "a: {base_path: 5, loras: [x]}\n",
    "- a\n- b\n",
    "5",
    "null",
    "",
    "a:\n\tbase_path: x\n",
    "a: &a [*a]\n",
    "!!python/object/apply:os.system ['true']\n",
    'a: !!binary "x"\n',
    "a: !unknown x\n",
    "{a: [1, 2",
    'a:\n  base_path: "\\0"\n  loras: "\\0"\n',
    'a:\n  loras: "\\ud800"\n',
    "? [1, 2]\n: {loras: x}\n",
    "a: 2001-99-99\n",
    "a: " + "9" * 6000 + "\n",
    "a: 0o9\n",
    "a:\n  loras: " + "x/" * 3000 + "\n",
    "[" * 5000,
    "a: " * 500,
    "a:\n  loras: |\n    l\n    \n    ~nouser/y\n    $NOTHING/z\n    /dev/zero\n    .\n    ..\n",
    "a:\n  base_path: /proc/self/fd\n  loras: .\n",
    "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    ),
    "a: {<<: {loras: l}, base_path: .}\n",
    "%YAML 9.9\n---\na: b\n",
    "--- a\n--- b\n",
    "\ufeffa:\n  loras: l\n",
    "a: b: c\n",
    "é: ü\n",
)


@pytest.mark.parametrize("text", [text[:40] for text in YAMLS])
def test_a_file_of_further_folders_never_hides_what_is_in_the_others(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_model(tmp_path / "models", "starter")
    make_lora(tmp_path / "l", "ink")
    whole = next(yaml for yaml in YAMLS if yaml[:40] == text)
    (tmp_path / "models" / "extra_model_paths.yaml").write_text(whole, "utf-8", errors="surrogatepass")
    (tmp_path / "extra_model_paths.yaml").write_text(whole, "utf-8", errors="surrogatepass")
    scanner = Scanner([tmp_path / "models"])
    with caplog.at_level(logging.WARNING):
        entries = scanner.scan()
    _check(entries)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", "a: {base_path: é}".encode("latin-1"), b"\x00", "a: {loras: l}".encode("utf-16")]
)
def test_a_file_of_further_folders_in_another_encoding_does_not_either(tmp_path: Path, data: bytes) -> None:
    make_model(tmp_path / "models", "starter")
    (tmp_path / "extra_model_paths.yaml").write_bytes(data)
    _check(scan([tmp_path / "models"]))


def test_a_folder_that_names_nobody_is_said_and_the_others_of_the_file_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_model(tmp_path / "models", "starter")
    make_lora(tmp_path / "l", "ink")
    (tmp_path / "extra_model_paths.yaml").write_text(
        f"one:\n  base_path: ~nouser/x\n  loras: l\ntwo:\n  base_path: {tmp_path}\n  loras: l\n"
    )
    with caplog.at_level(logging.WARNING):
        assert {entry.ref.name for entry in scan([tmp_path / "models"])} == {"starter", "ink"}
    assert "~nouser/x" in caplog.text
