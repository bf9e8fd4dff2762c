"""The routes under /api/v1, a file per thing that is asked about. Each parses, calls the Studio and serializes."""
