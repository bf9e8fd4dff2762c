"""The words that all layers share: recipes, tasks, events, records, errors, hooks.

Knows only the standard library, pydantic and pluggy. What can be asked for is in `catalog/`.
"""
