"""Raster files: opening, reading windows, bands, stacks and missing values."""
