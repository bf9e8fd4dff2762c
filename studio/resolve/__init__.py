"""Resolves a draft to a recipe: models found, gaps filled, conflicts refused."""
