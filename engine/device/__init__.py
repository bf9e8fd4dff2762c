"""The device: which one, its memory, its compute dtype, its attention kernels."""
