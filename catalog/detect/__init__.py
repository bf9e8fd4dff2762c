"""What a file or folder is: family, kind and variant, identified by headers and configurations, never by names."""
