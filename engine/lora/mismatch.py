"""What is raised where a LoRA's tensors make no change of the layer they are for."""


class ShapeMismatch(Exception):
    """A layer is incomplete or of another shape; the message says how, without the file's name."""
