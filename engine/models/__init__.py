"""Loaded models: the manager that leases, swaps and evicts them, module slots, offloading."""
