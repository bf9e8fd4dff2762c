"""The models on disk: list, facts, hashes, and the tasks that fetch, convert, merge and delete them."""
