"""What can be asked for, known without torch: models (from their files), families, samplers."""
