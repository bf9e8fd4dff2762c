"""What can stand in a scene: one function a thing, by kind, and `table.THINGS`, the list of all of them."""
