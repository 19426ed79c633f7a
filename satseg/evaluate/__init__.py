"""Scoring a model on a split, and correcting map areas by the scores."""
