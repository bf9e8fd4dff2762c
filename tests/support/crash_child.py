"""A program to be killed: a studio with a fake worker that saves pictures until it is shot.

Arguments: data folder, where to stop: "save" (anywhere), "replaced" (after the rename, before the index),
"painting" (in mid-step). It says "ready" when shooting makes sense.
"""

import sys
import threading
from pathlib import Path

from contract.recipe import RecipeDraft
from studio.gallery.gallery import Gallery
from studio.metadata.image_files import PictureFacts
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker


def main(folder: Path, where: str) -> None:
    worker = FakeWorker()
    if where == "replaced":

        def add(self: Gallery, path: str, facts: PictureFacts) -> bool:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            threading.Event().wait()
            return True

        Gallery.add = add  # type: ignore[method-assign]
    if where == "painting":
        worker.gate.clear()
    studio = Studio(Settings(data_dir=folder, model_dirs=(folder / "models",), max_jobs_per_owner=50), worker)
    studio.start()
    for number in range(1 if where != "save" else 5):
        studio.submit(RecipeDraft(prompt=f"[noise] {number}", count=4, width=192, height=192), "owner-me")
    if where != "replaced":
        while where == "painting" and not worker.work_items:
            threading.Event().wait(0.01)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
