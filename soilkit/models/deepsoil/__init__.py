"""Seed 000: DEEPSOIL, daily moisture at 30 m by a U-Net whose loss knows the suction of water."""

from soilkit.models.deepsoil.network import DeepSoil as DeepSoil
from soilkit.models.deepsoil.network import ScienceLoss as ScienceLoss
