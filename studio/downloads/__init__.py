"""Fetches models from the Hugging Face hub: the only part of the house that opens a connection to elsewhere.

wire.py connects, hub.py reads what a repository has, places.py says what goes where, fetch.py brings one file,
model task.py runs a `Download` of the queue. Nothing here is called but for the owner of the machine.
"""
