"""Prediction of whole scenes: maps, areas and polygons."""
