"""The finished images: index, search, thumbnails, and whose they are."""
