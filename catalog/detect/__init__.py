"""What a file or folder is: family, kind and variant, told by headers and configurations, never by names."""
