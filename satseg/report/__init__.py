"""Comparison of runs: ranking, differences, and their significance."""
