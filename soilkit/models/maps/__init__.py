"""Maps: a region's layers as a model eats them, and the model slid over them."""

from soilkit.models.maps.table_map import Layer, daily_layers, predict_table_map
from soilkit.models.maps.windows import (
    Scene,
    map_grid,
    predict_map,
    region_chips,
    scene_of,
    spatial_scores,
    to_cog,
    ubrmse_difference,
)

__all__ = [
    "Layer", "Scene", "daily_layers", "map_grid", "predict_map", "predict_table_map",
    "region_chips", "scene_of", "spatial_scores", "to_cog", "ubrmse_difference",
]  # fmt: skip
