"""From noise to latents: the denoising loop, samplers and schedules."""
