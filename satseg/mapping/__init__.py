"""What becomes of a finished class map: polygons for a GIS, and the area of each class."""

from satseg.mapping.areas import ClassArea, area_text, class_areas, write_areas
from satseg.mapping.vectors import write_vectors

__all__ = ["ClassArea", "area_text", "class_areas", "write_areas", "write_vectors"]
