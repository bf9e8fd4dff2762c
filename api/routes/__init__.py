"""The routes under /api/v1, one file per resource. Each parses, calls the Studio and serializes."""
