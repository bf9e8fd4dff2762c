"""Where model files are and how they are read: folders, safetensors headers, side files, own settings."""
