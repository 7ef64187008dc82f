"""Maps: a region's layers as a model eats them, and the model slid over them."""

from soilkit.models.maps.products import save as save
from soilkit.models.maps.products import to_cog as to_cog
from soilkit.models.maps.region_map import plan_region as plan_region
from soilkit.models.maps.region_map import predict_region as predict_region
from soilkit.models.maps.scene import Scene as Scene
from soilkit.models.maps.scene import scene_of as scene_of
from soilkit.models.maps.table_map import Layer as Layer
from soilkit.models.maps.table_map import daily_layers as daily_layers
from soilkit.models.maps.table_map import predict_table_map as predict_table_map
from soilkit.models.maps.validity import reason_shares as reason_shares
from soilkit.models.maps.validity import reasons_of as reasons_of
from soilkit.models.maps.validity import training_area as training_area
from soilkit.models.maps.validity import with_applicability as with_applicability
from soilkit.models.maps.validity import with_interval as with_interval
from soilkit.models.maps.validity import with_validity as with_validity
from soilkit.models.maps.windows import map_grid as map_grid
from soilkit.models.maps.windows import predict_map as predict_map
