"""`python -m training --out DIR`: draws the data, trains every part and writes the model folder.

Each stage goes on from its checkpoint in DIR, so the command can be stopped and given again.
"""

import argparse
import logging
from pathlib import Path

from training.stages import STAGES, Plan


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train the starter model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for pools and checkpoints (about 2 GB)")
    parser.add_argument("--target", type=Path, default=Path("models/starter"), help="model folder to write")
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all", help="one stage alone")
    parser.add_argument("--pictures", type=int, default=13000, help="square scenes to draw")
    parser.add_argument("--vae-minutes", type=float, default=40)
    parser.add_argument("--decoder-minutes", type=float, default=8)
    parser.add_argument("--text-minutes", type=float, default=4)
    parser.add_argument("--unet-minutes", type=float, default=60)
    parser.add_argument("--processes", type=int, default=2, help="U-Net processes of one thread each")
    return parser.parse_args()


def main() -> None:
    """Run the stages that were asked for, in order."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    arguments = _arguments()
    plan = Plan(
        out=arguments.out, target=arguments.target, pictures=arguments.pictures, processes=arguments.processes,
        minutes={"vae": arguments.vae_minutes, "decoder": arguments.decoder_minutes, "text": arguments.text_minutes, "unet": arguments.unet_minutes},
    )  # fmt: skip
    for name in STAGES if arguments.stage == "all" else (arguments.stage,):
        STAGES[name](plan)


if __name__ == "__main__":
    main()
