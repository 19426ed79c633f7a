"""Labels: masks, polygons, and the scheme that gives their values to classes."""
