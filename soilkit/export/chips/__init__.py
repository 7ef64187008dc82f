"""Chips: cut once per station and scene, kept in a zarr store with a manifest, read back fast."""

from soilkit.export.chips.builder import add as add
from soilkit.export.chips.builder import build as build
from soilkit.export.chips.builder import plan as plan
from soilkit.export.chips.builder import verify as verify
from soilkit.export.chips.store import FILL as FILL
from soilkit.export.chips.store import ChipStore as ChipStore
from soilkit.export.chips.store import Packing as Packing
from soilkit.export.chips.store import open_store as open_store
from soilkit.export.chips.store import packing_of as packing_of
