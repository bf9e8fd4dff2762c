"""The data folder: database, lock, ids, secrets, log lines, durable files."""
