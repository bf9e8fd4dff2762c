"""Weights as bytes: weight buffers, and safetensors files read and written."""
