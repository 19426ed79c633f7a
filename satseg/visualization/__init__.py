"""Figures and HTML pages from arrays and plain numbers."""
