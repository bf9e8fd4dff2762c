"""The data folder: database, lock, ids, secrets, log lines, files written to stay."""
