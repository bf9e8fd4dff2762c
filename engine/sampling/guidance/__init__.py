"""Guidance: classifier-free, and the methods beside it, one class each by its paper (rows: `catalog/guidance.py`)."""
