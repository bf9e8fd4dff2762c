"""The routes of models: by kind, asked for again at no cost, with notes and pictures, and 5,000 at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.lora_layouts import down_up, kohya, unet_modules
from tests.support.serving import Site, served, until

LORA = down_up(kohya("lora_unet_", unet_modules("sd1", only="attn2")), 1)
PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with LoRAs."""
    folder = tmp_path_factory.mktemp("library")
    path = layouts.write(folder / "models" / "Lora" / "ink" / "old.safetensors", LORA)
    path.with_name("old.preview.png").write_bytes(PNG)
    path.with_name("old.json").write_text(json.dumps({"activation text": "ink wash", "notes": "Use 0.8."}))
    layouts.write(folder / "models" / "Lora" / "starter.safetensors", LORA)
    (folder / "models" / "Lora" / "bad.pt").write_bytes(b"x")
    for number in range(300):
        layouts.write(folder / "models" / "embeddings" / f"e{number}.safetensors", {"emb_params": (1, 768)})
    with served(folder) as running:
        until(lambda: len(embeddings(running)) == 300)  # a busy machine's first scan takes longer than a request waits
        yield running


def embeddings(site: Site) -> list[str]:
    return [entry.ref.name for entry in site.studio.models() if entry.ref.kind == "embedding"]


def test_lists_are_by_kind_and_say_what_is_known(library: Site) -> None:
    rows = {row["name"]: row for row in library.program().get("/api/v1/models?kind=lora").json()["models"]}
    assert set(rows) == {"ink/old", "starter", "bad"}
    old = rows["ink/old"]
    assert (old["family"], old["family_label"], old["detail"], old["format"]) == ("sd1", "SD 1.x", "LoRA", "file")
    assert (old["folder"], old["trigger_words"], old["has_preview"]) == ("ink", ["ink wash"], True)
    assert old["size_bytes"] and old["modified"] > 1e9 and "notes" not in old and old["defaults"] == {}
    assert rows["bad"]["format"] == "pickle" and rows["bad"]["hint"].startswith("Convert it")
    assert str(library.studio.settings.data_dir.parent) not in json.dumps(rows)


def test_one_model_has_its_notes_and_a_kind_tells_two_of_one_name_apart(library: Site) -> None:
    someone = library.program()
    assert someone.get("/api/v1/models/ink/old").json()["notes"] == "Use 0.8."
    assert someone.get("/api/v1/models/starter?kind=lora").json()["kind"] == "lora"
    assert someone.get("/api/v1/models/starter?kind=checkpoint").json()["kind"] == "checkpoint"
    assert someone.get("/api/v1/models/starter?kind=vae").status_code == 404
    assert someone.get("/api/v1/models/starter?kind=sandwich").status_code == 422


def test_a_picture_beside_a_file_is_sent(library: Site) -> None:
    answer = library.program().get("/api/v1/models/ink/old/preview?kind=lora")
    assert answer.content == PNG and answer.headers["content-type"] == "image/png"
    assert library.program().get("/api/v1/models/starter/preview?kind=lora").status_code == 404


def test_a_picture_that_leads_elsewhere_is_not_sent(library: Site, tmp_path: Path) -> None:
    folder = library.studio.settings.model_dirs[0] / "Lora"
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / "starter.png").symlink_to(tmp_path / "secret.png")
    until(lambda: library.studio.models(fresh=True) and library.studio.model("starter", "lora"))
    assert library.studio.model("starter", "lora").preview_path is None
    assert library.program().get("/api/v1/models/starter/preview?kind=lora").status_code == 404


def test_a_list_that_did_not_change_is_not_sent_again(library: Site) -> None:
    someone = library.program()
    first = someone.get("/api/v1/models?kind=embedding")
    assert len(first.json()["models"]) == 300 and first.headers["content-encoding"] == "gzip"
    again = someone.get("/api/v1/models?kind=embedding", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    plain = someone.get("/api/v1/models?kind=embedding", headers={"Accept-Encoding": "identity"})
    assert plain.json() == first.json() and "content-encoding" not in plain.headers
    assert len(plain.content) < 700 * 300
    layouts.write(library.studio.settings.model_dirs[0] / "embeddings" / "new.safetensors", {"emb_params": (1, 768)})
    until(lambda: library.studio.models(fresh=True) and "new" in embeddings(library))
    changed = someone.get("/api/v1/models?kind=embedding", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200 and len(changed.json()["models"]) == 301
