"""Chips: cut once per station and scene, kept in a zarr store with a manifest, read back fast."""

from soilkit.export.chips.builder import add, build, plan, verify
from soilkit.export.chips.store import FILL, ChipStore, Packing, open_store, packing_of

__all__ = [
    "FILL",
    "ChipStore",
    "Packing",
    "add",
    "build",
    "open_store",
    "packing_of",
    "plan",
    "verify",
]
