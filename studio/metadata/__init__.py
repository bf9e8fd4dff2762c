"""What an image file says of how it was made: written into ours, read from everyone's."""
