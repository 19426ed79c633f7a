"""Products of class maps: polygons for a GIS, and the area of each class."""

from satseg.mapping.areas import ClassArea, class_areas, format_area, write_all_areas, write_areas
from satseg.mapping.joining import join_layers
from satseg.mapping.vectors import write_vectors

__all__ = ["ClassArea", "class_areas", "format_area", "join_layers", "write_all_areas", "write_areas", "write_vectors"]
