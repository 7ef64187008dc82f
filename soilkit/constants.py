"""Numbers and words that several wings share, each of them once."""

HIGH_PIXEL_M = 10.0  # of high-resolution sources
CROP_PX = 256  # pixels of 10 m a side that a model sees (Batchu et al. 2022, section 4)
CHIP_SIDE_M = CROP_PX * HIGH_PIXEL_M  # the ground under them, for splits, audits and clouds
PIXEL_RATIO = 16  # a low-resolution pixel of 160 m is 16 pixels of 10 m
PASS_SECONDS = 60.0  # slices of one radar or optical pass begin less than this apart
CONFIDENCE = 0.95  # of every interval that asks for no other
MIN_SAMPLES = 13  # of a sensor, for it to be scored: Batchu et al., section 4a
MIN_CLUSTERS = 5  # fewer blocks or networks give no interval
STATIC_SCENE = "static"  # the one scene of a layer without time
OK = "ok"  # the status of a score that stands; anything else says why there is none
EARTH_RADIUS_KM = 6371.0
