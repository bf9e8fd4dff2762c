"""A data folder with many models and pictures, for the figures at scale: rows of the index and links to one picture.

A hundred thousand generated pictures would take hours; each here is a link to the same file, indexed as its own.
"""

import json
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

PICTURES_A_DAY = 1000
_LINKS_A_FILE = 50_000  # ext4 allows 65,000


def add_models(folder: Path, count: int) -> None:
    """Write LoRA files of one small tensor pair each, which the catalog reads and lists."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{name}.lora_down.weight": {"dtype": "F32", "shape": [1, 320], "data_offsets": [0, 1280]},
        f"{name}.lora_up.weight": {"dtype": "F32", "shape": [320, 1], "data_offsets": [1280, 2560]},
    }
    header = json.dumps(tensors).encode()
    for number in range(count):
        weights = struct.pack("<I", number) + bytes(2556)
        (folder / f"lora-{number:05}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + weights)


def multiply_pictures(data: Path, count: int) -> None:
    """Make `count` pictures of the one that a data folder has; no program may use the folder meanwhile."""
    outputs = data / "outputs"
    (source,) = outputs.glob("*/*.png")
    with closing(sqlite3.connect(data / "darkroom.sqlite3")) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(images)")]
        found = connection.execute(f"SELECT {', '.join(columns)} FROM images").fetchone()
        row = dict(zip(columns, found, strict=True))
        first_day = date.fromisoformat(source.parent.name)
        rows = []
        for number in range(count):
            day = outputs / (first_day - timedelta(days=1 + number // PICTURES_A_DAY)).isoformat()
            day.mkdir(exist_ok=True)
            if number % _LINKS_A_FILE == 0:
                original = day / f"original-{number}.png"
                shutil.copyfile(source, original)
            path = original if number % _LINKS_A_FILE == 0 else day / f"{number:06}.png"
            if path != original:
                os.link(original, path)
            row_number = row["row"] - 1 - number
            changed = {"row": row_number, "id": f"{row_number:016x}{number:06x}", "path": f"{day.name}/{path.name}"}
            rows.append(tuple({**row, **changed, "created_at": row["created_at"] - number - 1}.values()))
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO images ({', '.join(columns)}) VALUES ({marks})", rows)
