"""Between images and latents: VAE, init latents, inpaint region, previews, preprocessors, upscalers."""
