"""Earth Engine: scenes, chips and series of the real archives, asked for within its limits."""
