"""Generation metadata in image files: written into Darkroom's own, read from any program's."""
