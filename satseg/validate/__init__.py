"""Validation of a dataset before training."""
