"""Images from outside: opened safely, converted to sRGB, kept by hash."""
