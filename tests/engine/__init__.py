"""The engine, on tiny real models."""
