"""Our loop against the stock diffusers pipelines."""
