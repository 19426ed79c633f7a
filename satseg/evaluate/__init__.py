"""Evaluation of a model on a split, and error-adjusted map areas."""
