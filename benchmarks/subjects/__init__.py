"""What is measured on: shapes of models, checkpoints of random weights on disk or in memory, a large library."""
