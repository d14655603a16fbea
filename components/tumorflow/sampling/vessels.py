"""Vessels of the lung: trees of tubes that branch from the hilum, cut by the slice."""

import math

import numpy as np
import numpy.typing as npt

from tumorflow.sampling.anatomy import Anatomy, Ellipse, Grid, Plane, cover

SMALL_VESSELS = 260
"""Twigs of one lung that no drawn branch leads to."""

Segments = npt.NDArray[np.float64]
"""(segments, 8): start x, y, z, end x, y, z in mm, and the radius at either end."""


def grow_vessels(random: np.random.Generator, anatomy: Anatomy, lung: int) -> Segments:
    """Returns the tubes of one lung (0: right, 1: left), drawn from `random`."""
    outline = anatomy.lungs[lung]
    side = -1.0 if lung == 0 else 1.0
    tips: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float, float]] = []
    for number in range(11):
        angle = -1.35 + 2.7 * number / 10 + random.uniform(-0.12, 0.12)
        heading = np.array([side * math.cos(angle), 1.25 * math.sin(angle), random.uniform(-0.6, 0.6)])
        start = np.array([side * 36.0, random.uniform(-4, 14), random.uniform(-16, 16)])
        tips.append((start, heading, random.uniform(1.7, 3.0), random.uniform(20, 30)))
    segments: list[list[float]] = []
    for _ in range(6):
        grown = []
        for start, heading, radius, length in tips:
            unit = heading / math.sqrt(float((heading * heading).sum()))
            end = start + unit * length
            segments.append([*start, *end, radius, radius * 0.85])
            if _inside(end, outline):
                for turn in (-0.5, 0.5):
                    bend = random.uniform(-0.35, 0.35, 3) + turn * np.array([-unit[1], unit[0], 0.5])
                    grown.append((end, unit + bend, radius * 0.74, length * random.uniform(0.62, 0.86)))
        tips = grown
    for _ in range(SMALL_VESSELS):
        middle = np.array(
            [
                outline.x_mm + outline.a_mm * random.uniform(-0.95, 0.95),
                outline.y_mm + outline.b_mm * random.uniform(-0.95, 0.95),
                random.uniform(-25, 25),
            ]
        )
        arm = random.uniform(-1, 1, 3) * np.array([7.0, 7.0, 12.0])
        radius = random.uniform(0.5, 1.3)
        if _inside(middle, outline):
            segments.append([*(middle - arm), *(middle + arm), radius, radius * 0.7])
    return np.array(segments)


def _inside(point: npt.NDArray[np.float64], outline: Ellipse) -> bool:
    u, v = (point[0] - outline.x_mm) / outline.a_mm, (point[1] - outline.y_mm) / outline.b_mm
    return bool(u * u + v * v < 1.1)


def paint_vessels(grid: Grid, segments: Segments, z_mm: float, thickness_mm: float) -> Plane:
    """Returns the coverage of the tubes in the slice at `z_mm`: float64 0–1, (rows, columns).

    A tube thinner than the slice covers only its share of it (partial volume).
    """
    coverage = np.zeros(grid.shape)
    half = thickness_mm / 2
    low = np.minimum(segments[:, 2], segments[:, 5]) - segments[:, 6]
    high = np.maximum(segments[:, 2], segments[:, 5]) + segments[:, 6]
    for ax, ay, az, bx, by, bz, ra, rb in segments[(low < z_mm + half) & (high > z_mm - half)]:
        dx, dy, dz = bx - ax, by - ay, bz - az
        reach = math.hypot(dx, dy) / 2 + ra + 2
        patch = grid.patch((ax + bx) / 2, (ay + by) / 2, reach)
        local = grid.cut(patch)
        if 0 in local.shape:
            continue
        px, py, pz = local.x_mm - ax, local.y_mm - ay, z_mm - az
        along = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz), 0.0, 1.0)
        # within the slab the tube is met where it passes nearest to the middle plane
        off_z = max(0.0, abs(az + dz * (pz / dz if dz and 0 <= pz / dz <= 1 else 0.5) - z_mm) - half)
        across = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + off_z**2)
        share = min(1.0, 2.2 * ra / thickness_mm)
        tube = share * cover(across - (ra + (rb - ra) * along), max(grid.spacing_mm, 0.5))
        coverage[patch] = np.maximum(coverage[patch], tube)
    return coverage
