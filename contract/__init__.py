"""The types that all layers share: recipes, tasks, events, records, errors, hooks.

Knows only the standard library, pydantic and pluggy. Samplers, families and models are in `catalog/`.
"""
