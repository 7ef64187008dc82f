"""DEEPSOIL (Khandelwal et al. 2024): daily moisture at 30 m, suction of water in the loss."""

from soilkit.models.deepsoil.clusters import Clusters as Clusters
from soilkit.models.deepsoil.extents import CHANNELS as CHANNELS
from soilkit.models.deepsoil.extents import LOW_LEVEL as LOW_LEVEL
from soilkit.models.deepsoil.extents import SOURCES as SOURCES
from soilkit.models.deepsoil.extents import Channel as Channel
from soilkit.models.deepsoil.extents import ExtentTiles as ExtentTiles
from soilkit.models.deepsoil.extents import build_extents as build_extents
from soilkit.models.deepsoil.extents import maps_of as maps_of
from soilkit.models.deepsoil.extents import monthly as monthly
from soilkit.models.deepsoil.extents import training_ranges as training_ranges
from soilkit.models.deepsoil.field_maps import TrainedDeepSoil as TrainedDeepSoil
from soilkit.models.deepsoil.field_maps import area_of as area_of
from soilkit.models.deepsoil.field_maps import load as load
from soilkit.models.deepsoil.field_maps import train as train
from soilkit.models.deepsoil.network import DeepSoil as DeepSoil
from soilkit.models.deepsoil.network import ScienceLoss as ScienceLoss
