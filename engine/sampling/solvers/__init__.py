"""Solvers: from noise to latents by a denoiser, one function each, in the words of its paper."""
