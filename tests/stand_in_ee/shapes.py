"""Convex polygons in a plane, and the projections between planes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj

SINUSOIDAL = "SR-ORG:6974"  # MODIS; unknown to pyproj by that name
_DEFINITIONS = {SINUSOIDAL: "+proj=sinu +R=6371007.181 +units=m +no_defs"}
METRES_PER_DEGREE = 111319.49079327358


@lru_cache(maxsize=1024)
def transformer(source: str, target: str) -> pyproj.Transformer:
    """From one reference system to another, x before y."""
    names = [_DEFINITIONS.get(name, name) for name in (source, target)]
    return pyproj.Transformer.from_crs(*names, always_xy=True)


@lru_cache(maxsize=1024)
def is_geographic(crs: str) -> bool:
    """Whether its units are degrees; raises pyproj.exceptions.CRSError for an unknown name."""
    return pyproj.CRS.from_user_input(_DEFINITIONS.get(crs, crs)).is_geographic


@dataclass(frozen=True)
class Convex:
    """A convex polygon, its corners counterclockwise (corner, xy)."""

    corners: np.ndarray

    @classmethod
    def of(cls, corners) -> "Convex":
        corners = np.asarray(corners, float)
        following = np.roll(corners, -1, axis=0)
        doubled_area = np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])
        return cls(corners if doubled_area >= 0 else corners[::-1])

    def contains(self, x, y):
        """Whether points lie inside or on the edge; broadcasts."""
        inside = np.True_
        for (x0, y0), (x1, y1) in zip(self.corners, np.roll(self.corners, -1, 0), strict=True):
            inside = inside & ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0)
        return inside

    def clip(self, point, normal) -> "Convex | None":
        """The part on the side of ``point`` to which ``normal`` does not point; None if empty."""
        side = (self.corners - point) @ np.asarray(normal)
        kept = []
        for i, corner in enumerate(self.corners):
            j = (i + 1) % len(self.corners)
            if side[i] <= 0:
                kept.append(corner)
            if side[i] * side[j] < 0:
                kept.append(corner + (self.corners[j] - corner) * side[i] / (side[i] - side[j]))
        return Convex(np.array(kept)) if len(kept) > 2 else None

    def meets(self, other: "Convex") -> bool:
        """Whether two polygons share a point: no edge of either parts them."""
        return not (_parted(self, other) or _parted(other, self))


def _parted(one: Convex, other: Convex) -> bool:
    if len(one.corners) < 3:
        return False
    edges = np.roll(one.corners, -1, 0) - one.corners
    outward = np.stack([edges[:, 1], -edges[:, 0]], axis=1)  # (edge, xy)
    reach = np.sum(outward * one.corners, axis=1)
    return bool((other.corners @ outward.T > reach).all(axis=0).any())
