"""Maps: a region's layers as a model eats them, and the model slid over them."""

from soilkit.maps.daily_layers import daily_layers
from soilkit.maps.region import region_chips, stored_statistics
from soilkit.maps.scene import Scene, scene_from_layers
from soilkit.maps.scores import spatial_scores, ubrmse_difference
from soilkit.maps.table_map import Layer, predict_table_map
from soilkit.maps.windows import map_grid, predict_map, to_cog

__all__ = [
    "Layer",
    "Scene",
    "daily_layers",
    "map_grid",
    "predict_map",
    "predict_table_map",
    "region_chips",
    "scene_from_layers",
    "spatial_scores",
    "stored_statistics",
    "to_cog",
    "ubrmse_difference",
]
