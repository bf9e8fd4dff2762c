"""Fetches models from the Hugging Face hub: the only code that opens a connection to another machine.

wire.py connects, hub.py lists a repository's files, destinations.py chooses the folders, fetch.py downloads one file,
download_task.py runs a `Download` of the queue. All of it is for the owner of the machine alone.
"""
