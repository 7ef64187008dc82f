"""A stand-in Earth Engine: a loopback server to which the unmodified client connects.

It evaluates the expressions that soilkit builds over analytic rasters (a value is a function of
asset, band, time, easting and northing), and refuses every node that it does not know. It knows no
real image: nothing that it answers says anything about the Earth.

Where it differs from the real service: no image pyramids (a coarse grid takes single native
pixels, where the service averages), a region's mean counts whole pixels by their centre, and
SoilGrids lies on latitudes and longitudes instead of Goode's homolosine.
"""
