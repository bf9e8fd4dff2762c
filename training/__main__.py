"""`python -m training --out DIR`: draws the data, trains every part and writes the model folder.

Each stage goes on from its checkpoint in DIR, so the command can be stopped and given again. On a CUDA device one
process trains with large batches; on a CPU several of one thread each.
"""

import argparse
import logging
from pathlib import Path

from training.loops.together import best_device
from training.stages import STAGES, Plan

_MINUTES = {"vae": 40.0, "decoder": 8.0, "text": 10.0, "unet": 70.0, "upscaler": 6.0, "preview": 6.0}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train the starter model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for pools and checkpoints (about 3 GB)")
    parser.add_argument("--target", type=Path, default=Path("models/starter"), help="model folder to write")
    parser.add_argument(
        "--start",
        type=Path,
        help="model folder whose VAE, text encoder and U-Net go on; without it training begins with random weights",
    )
    parser.add_argument(
        "--stage", choices=STAGES, nargs="+", default=list(STAGES), help="one or several, in this order (default all)"
    )
    parser.add_argument("--pictures", type=int, default=8000, help="square scenes to draw")
    parser.add_argument("--batch", type=int, help="samples a step and process (default 32, on CUDA 256)")
    parser.add_argument("--processes", type=int, help="processes of one thread each (default 2, on CUDA 1)")
    for stage, minutes in _MINUTES.items():
        parser.add_argument(f"--{stage}-minutes", type=float, default=minutes)
    parser.add_argument(
        "--unet-last-minutes", type=float, help="the U-Net's last part (default two fifths; 0 where it goes on later)"
    )
    return parser.parse_args()


def main() -> None:
    """Run the stages that were asked for, in order."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    arguments = _arguments()
    is_cuda = best_device().type == "cuda"
    plan = Plan(
        out=arguments.out, target=arguments.target, start=arguments.start, pictures=arguments.pictures,
        processes=arguments.processes or (1 if is_cuda else 2), batch=arguments.batch or (256 if is_cuda else 32),
        minutes={stage: getattr(arguments, f"{stage}_minutes") for stage in _MINUTES},
        last_minutes=arguments.unet_last_minutes,
    )  # fmt: skip
    plan.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.stage:
        STAGES[name](plan)


if __name__ == "__main__":
    main()
