"""Drawn scenes, the training data: parameters, painting, captions, pools on disk."""
