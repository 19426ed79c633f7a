"""Labels: masks, polygons, and the scheme that maps their values to classes."""
