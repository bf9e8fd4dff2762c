"""The VAE's loss and the folding of its normalisation."""

import numpy as np
import torch

from training import vae as vae_module
from training.drawing.data import scenes_of
from training.drawing.drawing import draw
from training.loops.checkpoints import Budget
from training.vae import Pools, crops, encode_pool, fold_normalisation, new_vae, to_tensor


def pictures(count: int) -> np.ndarray:
    return np.stack([np.asarray(draw(scene, 64, 64)) for scene in scenes_of(3, count)])


def test_folding_normalises_latents_and_keeps_the_pictures() -> None:
    torch.manual_seed(0)
    model, pool = new_vae().eval(), pictures(4)
    with torch.inference_mode():
        before = model.decode(model.encode(to_tensor(pool)).latent_dist.mode()).sample
    fold_normalisation(model, encode_pool(model, pool))
    with torch.inference_mode():
        latents = model.encode(to_tensor(pool)).latent_dist.mode()
        after = model.decode(latents).sample
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02
    torch.testing.assert_close(after, before, atol=0.02, rtol=0.02)


def test_training_the_vae_lowers_its_loss(tmp_path) -> None:
    pool = pictures(4)
    legible = torch.nn.Conv2d(4, 3, 1)
    batch = to_tensor(pool)
    start = vae_module.vae_loss(new_vae(), legible, batch).item()
    trained = vae_module.train_vae(
        tmp_path, new_vae(), Pools(pool, np.full((4, 8, 8), 255, np.uint8), pool), Budget(steps=12), batch=4
    )
    assert np.isfinite(start)
    assert vae_module.vae_loss(trained, legible, batch).item() < start
    assert (tmp_path / "vae.pt").exists()


def test_half_of_the_crops_hold_the_thing() -> None:
    pool, covered = np.full((1, 128, 128, 3), 200, np.uint8), np.zeros((1, 16, 16), np.uint8)
    pool[0, :8, :8], covered[0, 0, 0] = 0, 255
    batch = crops(pool, covered, np.random.default_rng(1), 200, 64)
    held = (batch.amin(dim=(1, 2, 3)) < -0.9).float().mean()
    assert 0.4 < held < 0.65
