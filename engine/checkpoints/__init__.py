"""Which components a model has, and how each is read from a diffusers folder or a single file."""
