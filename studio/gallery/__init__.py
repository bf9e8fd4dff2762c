"""The finished images: index, search, thumbnails, owners."""
