"""Chips: cut once per station and scene, kept in a zarr store with a manifest, read back fast."""

from soilkit.chips.building import add, build, plan, verify
from soilkit.chips.packing import FILL, PACKING, Packing, packing_of
from soilkit.chips.store import ChipStore, open_store

__all__ = [
    "FILL",
    "PACKING",
    "ChipStore",
    "Packing",
    "add",
    "build",
    "open_store",
    "packing_of",
    "plan",
    "verify",
]
