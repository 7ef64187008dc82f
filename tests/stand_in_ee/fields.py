"""What the analytic Earth looks like: smooth waves of a few pixels' length, clouds, sea."""

import hashlib

import numpy as np

# West, south, east, north: open ocean without a coast in reach.
SEAS = ((-50, 10, -30, 50), (-30, -50, 5, -5), (-170, -50, -130, 10), (65, -45, 90, -5))


def draw(*words, n: int = 1):
    """``n`` numbers in [0, 1) that depend on the words and on nothing else."""
    text = "|".join(str(word) for word in words).encode()
    digest = hashlib.blake2b(text, digest_size=8 * n).digest()
    numbers = np.frombuffer(digest, dtype="<u8") / 2.0**64
    return float(numbers[0]) if n == 1 else numbers


def _wave(u, v, a, b, phase):
    """sin(a u + b v + phase); cheap where u is a row and v a column."""
    along, across = a * u, b * v + phase
    return np.sin(along) * np.cos(across) + np.cos(along) * np.sin(across)


def wave(words, x, y):
    """A number in [-1, 1] at a place given in pixels; neighbours differ by up to 0.3."""
    p, q, r = 2 * np.pi * draw(*words, n=3)
    fine = 0.5 * _wave(x, y, 0.35, 0.11, p) + 0.3 * _wave(x, y, -0.19, 0.27, q)
    return fine + 0.2 * _wave(x, y, 0.0023, 0.0031, r)


def clearness(words, x_m, y_m):
    """Even between 0 and 1 over stripes of three kilometres: cloud where it is below the cover."""
    p = draw(*words, "cloud")
    saw = (x_m / 3000.0 + y_m / 4700.0 + p) % 1.0
    return np.abs(2 * saw - 1)


def is_sea(longitude, latitude):
    """Whether a point lies in one of the oceans' boxes."""
    sea = False
    for west, south, east, north in SEAS:
        inside = (longitude > west) & (longitude < east) & (latitude > south) & (latitude < north)
        sea = sea | inside
    return sea
