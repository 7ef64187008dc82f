"""Maps: a region's layers as a model eats them, and the model slid over them."""

from soilkit.maps.scene import Scene, scene_from_layers
from soilkit.maps.windows import map_grid, predict_map, to_cog

__all__ = ["Scene", "map_grid", "predict_map", "scene_from_layers", "to_cog"]
