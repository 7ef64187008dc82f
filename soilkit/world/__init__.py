"""The synthetic world: a function of seed, time and grid, with known soil moisture."""

from soilkit.world.surface import Surface
from soilkit.world.world import World

__all__ = ["Surface", "World"]
