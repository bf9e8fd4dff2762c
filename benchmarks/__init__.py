"""Speed as ratios of two things timed in one run; `python -m benchmarks.<name>`. Never part of the tests."""
