"""A stand-in Earth Engine: a loopback server to which the unmodified client connects.

It evaluates the expressions that soilkit builds over analytic rasters (a value is a function of
asset, band, time, easting and northing), and refuses every node that it does not know. It knows no
real image: nothing that it answers says anything about the Earth.

In a test take the fixture ``stand_in`` (``url``, ``faults``, ``counters``, ``earth``) and, for the
client, ``earth_engine``; compare with ``oracle.expected``. For another process start
``fixtures.Process`` (or ``python -m tests.stand_in_ee``) and connect there by
``fixtures.initialise``; for a notebook's kernel give it ``fixtures.stand_in_environment``.

To add an asset, write a row in ``rasters``; every other row of soilkit's catalogue is there as a
plain global layer. To add a node, write a function named by ``@node`` in ``nodes`` or
``image_nodes``: its parameters are the published signature's.

Where it differs from the real service: no image pyramids (a coarse grid takes single native
pixels, where the service averages), a region's mean counts whole pixels by their centre, polygons
are convex, and SoilGrids lies on latitudes and longitudes instead of Goode's homolosine. Satellites
fly repeating sun-synchronous tracks with the real cycles and local times, but no real schedule.
"""
