"""A small U-Net at 1 km that obeys stations and a coarse analysis (Tsagkatakis et al.)."""

from soilkit.models.composite_unet.kilometre_map import COARSE as COARSE
from soilkit.models.composite_unet.kilometre_map import LAYERS as LAYERS
from soilkit.models.composite_unet.kilometre_map import RADAR as RADAR
from soilkit.models.composite_unet.kilometre_map import SOURCES as SOURCES
from soilkit.models.composite_unet.kilometre_map import WATER as WATER
from soilkit.models.composite_unet.kilometre_map import Curves as Curves
from soilkit.models.composite_unet.kilometre_map import Patches as Patches
from soilkit.models.composite_unet.kilometre_map import TrainedComposite as TrainedComposite
from soilkit.models.composite_unet.kilometre_map import load as load
from soilkit.models.composite_unet.kilometre_map import look as look
from soilkit.models.composite_unet.kilometre_map import step_by as step_by
from soilkit.models.composite_unet.kilometre_map import train as train
from soilkit.models.composite_unet.unet import NORMS as NORMS
from soilkit.models.composite_unet.unet import PRESETS as PRESETS
from soilkit.models.composite_unet.unet import CompositeConfig as CompositeConfig
from soilkit.models.composite_unet.unet import CompositeUNet as CompositeUNet
from soilkit.models.composite_unet.unet import coarsened as coarsened
from soilkit.models.composite_unet.unet import composite_loss as composite_loss
