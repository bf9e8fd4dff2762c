"""What all trainings share: the loop, optimizers, checkpoints, several processes."""
