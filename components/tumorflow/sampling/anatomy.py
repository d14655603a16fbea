"""A thorax drawn in Hounsfield units.

Coordinates are millimetres in the patient's frame (DICOM PS3.3 C.7.6.2.1.1): x grows to the patient's
left, y to the back, z to the head; (0, 0) is the middle of the thorax. Coverages are float64 in 0–1,
(rows, columns). Only arithmetic, square roots and sines are used, each in float64 and one thread, so
that the same patient gives the same picture on every machine.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]

AIR_HU, FAT_HU, MUSCLE_HU, SOFT_TISSUE_HU = -1000.0, -105.0, 55.0, 40.0
CORTICAL_BONE_HU, SPONGY_BONE_HU = 720.0, 190.0


@dataclass(frozen=True)
class Grid:
    """Where the pixels of one slice lie: x_mm (1, columns) and y_mm (rows, 1)."""

    x_mm: Plane
    y_mm: Plane
    spacing_mm: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y_mm.shape[0], self.x_mm.shape[1]

    def patch(self, x_mm: float, y_mm: float, reach_mm: float) -> tuple[slice, slice]:
        """Returns the rows and columns within `reach_mm` of a point; empty where it is out of view."""
        rows, columns = self.shape
        column = (x_mm - self.x_mm[0, 0]) / self.spacing_mm
        row = (y_mm - self.y_mm[0, 0]) / self.spacing_mm
        reach = reach_mm / self.spacing_mm
        return (
            slice(max(0, math.floor(row - reach)), max(0, min(rows, math.ceil(row + reach) + 1))),
            slice(max(0, math.floor(column - reach)), max(0, min(columns, math.ceil(column + reach) + 1))),
        )

    def cut(self, patch: tuple[slice, slice]) -> "Grid":
        """Returns the grid of a patch."""
        return Grid(self.x_mm[:, patch[1]], self.y_mm[patch[0], :], self.spacing_mm)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse with half axes `a_mm` along x and `b_mm` along y."""

    x_mm: float
    y_mm: float
    a_mm: float
    b_mm: float

    def grown(self, by_mm: float) -> "Ellipse":
        """Returns the ellipse with both half axes longer by `by_mm`."""
        return replace(self, a_mm=self.a_mm + by_mm, b_mm=self.b_mm + by_mm)


@dataclass(frozen=True)
class Anatomy:
    """What differs from patient to patient."""

    body: Ellipse
    fat_mm: float
    muscle_mm: float
    lungs: tuple[Ellipse, Ellipse]
    heart: Ellipse
    aorta: Ellipse
    level: float
    """0 at the apices, 1 at the bases of the lungs."""
    lung_hu: float
    blood_hu: float
    bone_scale: float
    rib_phase: float
    warp: tuple[tuple[float, float, float, float], ...]
    """Amplitude in mm, wave numbers per mm along x and y, phase; first half moves x, second half y."""


def make_grid(size_px: int, field_of_view_mm: float, x_mm: float, y_mm: float) -> Grid:
    """Returns the grid of a square slice of `size_px` whose centre is (x_mm, y_mm)."""
    spacing = field_of_view_mm / size_px
    offsets = (np.arange(size_px, dtype=np.float64) - (size_px - 1) / 2) * spacing
    return Grid((offsets + x_mm)[None, :], (offsets + y_mm)[:, None], spacing)


def cover(signed_distance_mm: Plane, edge_mm: float) -> Plane:
    """Returns the coverage of a shape: 1 inside (distance < 0), 0 outside, linear over `edge_mm`."""
    coverage = signed_distance_mm * (-1.0 / edge_mm)
    coverage += 0.5
    return np.clip(coverage, 0.0, 1.0, out=coverage)


def distance_to_ellipse(x_mm: Plane, y_mm: Plane, ellipse: Ellipse) -> Plane:
    """Returns roughly how far each point lies outside the ellipse (negative inside), in mm.

    First-order approximation q(q - 1)/|∇q²/2| with q² = (x/a)² + (y/b)².
    """
    u = x_mm - ellipse.x_mm
    u *= 1 / ellipse.a_mm
    u *= u
    v = y_mm - ellipse.y_mm
    v *= 1 / ellipse.b_mm
    v *= v
    squared = u + v
    u *= ellipse.a_mm**-2
    v *= ellipse.b_mm**-2
    slope = np.sqrt(u + v)
    slope += 1e-9
    distance = squared - np.sqrt(squared)
    distance /= slope
    return distance


def blend(image: Plane, coverage: Plane, value_hu: Plane | float) -> Plane:
    """Returns `image` where nothing covers it, `value_hu` where it is wholly covered."""
    mixed = value_hu - image
    mixed *= coverage
    mixed += image
    return mixed


def draw_anatomy(random: np.random.Generator) -> Anatomy:
    """Returns the anatomy of one patient, drawn from `random`."""
    scale = random.uniform(0.92, 1.08)
    level = random.uniform(0.40, 0.72)
    opening = 1.0 - 1.1 * (level - 0.62) ** 2
    lungs = tuple(
        Ellipse(
            side * (73 + random.uniform(-3, 4)) * scale,
            random.uniform(-5, 4),
            (55 + random.uniform(-4, 5)) * scale * opening,
            (86 + random.uniform(-7, 7)) * scale * opening,
        )
        for side in (-1.0, 1.0)
    )
    fat_mm = random.uniform(6, 24)
    muscle_mm = random.uniform(10, 19)
    wall_mm = fat_mm + muscle_mm + 8
    heart_scale = scale * (0.55 + 0.75 * max(0.0, level - 0.35))
    return Anatomy(
        body=Ellipse(
            0.0,
            2.0,
            max(ellipse.a_mm for ellipse in lungs) + 74 * scale + wall_mm,
            max(ellipse.b_mm for ellipse in lungs) + wall_mm + 6,
        ),
        fat_mm=fat_mm,
        muscle_mm=muscle_mm,
        lungs=(lungs[0], lungs[1]),
        heart=Ellipse(
            13 * scale + random.uniform(-4, 5),
            -30 + random.uniform(-6, 6),
            62 * heart_scale,
            50 * heart_scale,
        ),
        aorta=Ellipse(
            21 + random.uniform(-3, 4), 47 + random.uniform(-4, 4), *(2 * [random.uniform(10, 15)])
        ),
        level=level,
        lung_hu=random.uniform(-890, -800),
        blood_hu=random.uniform(35, 50) if random.uniform() < 0.4 else random.uniform(110, 230),
        bone_scale=random.uniform(0.75, 1.2),
        rib_phase=random.uniform(0, 2 * math.pi),
        warp=tuple(
            (
                random.uniform(0.8, 2.6),
                random.uniform(-0.045, 0.045),
                random.uniform(-0.045, 0.045),
                random.uniform(0, 2 * math.pi),
            )
            for _ in range(6)
        ),
    )


def warp(grid: Grid, anatomy: Anatomy) -> tuple[Plane, Plane]:
    """Returns x and y of every pixel after a smooth displacement, so that no outline is an ellipse."""
    shifts = []
    for half in (anatomy.warp[:3], anatomy.warp[3:]):
        shift = np.zeros(grid.shape)
        for amplitude, wave_x, wave_y, phase in half:
            across, down = wave_x * grid.x_mm, wave_y * grid.y_mm + phase
            # sin(a + b) from rows and columns: short sines in place of a whole plane of them
            shift += (amplitude * np.sin(across)) * np.cos(down)
            shift += (amplitude * np.cos(across)) * np.sin(down)
        shifts.append(shift)
    return grid.x_mm + shifts[0], grid.y_mm + shifts[1]


def lung_coverage(
    grid: Grid, x_mm: Plane, y_mm: Plane, outside_mm: Plane, anatomy: Anatomy, edge_mm: float
) -> Plane:
    """Returns how much of each pixel is lung: both lungs without mediastinum, heart and spine."""
    coverage = cover(outside_mm, edge_mm)
    for ellipse in (mediastinum(anatomy), anatomy.heart, spine(anatomy).grown(4.0)):
        patch = _reach(grid, ellipse)
        inside = cover(distance_to_ellipse(x_mm[patch], y_mm[patch], ellipse), edge_mm)
        coverage[patch] = np.minimum(coverage[patch], 1.0 - inside)
    return coverage


def mediastinum(anatomy: Anatomy) -> Ellipse:
    """Returns the outline of the mediastinum."""
    return Ellipse(2.0, 0.0, 33.0, 0.86 * anatomy.lungs[0].b_mm)


def spine(anatomy: Anatomy) -> Ellipse:
    """Returns the outline of the vertebral body."""
    return Ellipse(0.0, anatomy.lungs[0].b_mm - 20.0, 19.0, 16.0)


@dataclass(frozen=True)
class Backdrop:
    """What all slices of a patient share: planes (rows, columns), drawn once."""

    grid: Grid
    edge_mm: float
    x_mm: Plane
    y_mm: Plane
    """Where each pixel lies before the patient's outlines were warped."""
    wall_hu: Plane
    """Skin, fat and muscle, as if there were no lungs."""
    outside_mm: Plane
    """Distance to the nearest lung's outline, negative inside."""
    lungs: Plane
    """Coverage by lung."""


def paint_backdrop(grid: Grid, anatomy: Anatomy, edge_mm: float) -> Backdrop:
    """Returns the chest wall and the outlines of the lungs; `edge_mm` is how wide borders are."""
    x, y = warp(grid, anatomy)
    body = distance_to_ellipse(x, y, anatomy.body)
    image = np.full(grid.shape, AIR_HU)
    image = blend(image, cover(body, edge_mm), MUSCLE_HU - 10)  # skin
    image = blend(image, cover(body + 2.0, edge_mm), FAT_HU)
    # muscle in two sheets with a thread of fat between them
    image = blend(image, cover(body + anatomy.fat_mm, edge_mm), MUSCLE_HU)
    seam = np.abs(body + anatomy.fat_mm + 0.55 * anatomy.muscle_mm) - 0.9
    image = blend(image, cover(seam, 2.0), -60.0)
    outside = np.minimum(*(distance_to_ellipse(x, y, lung) for lung in anatomy.lungs))
    lungs = lung_coverage(grid, x, y, outside, anatomy, edge_mm)
    return Backdrop(grid, edge_mm, x, y, image, outside, lungs)


def paint_anatomy(backdrop: Backdrop, anatomy: Anatomy, z_mm: float) -> Plane:
    """Returns the slice at height `z_mm` without vessels, lesions and noise: float64 HU, (rows, columns)."""
    grid, x, y = backdrop.grid, backdrop.x_mm, backdrop.y_mm
    image = _paint_ribs(backdrop, anatomy, z_mm)
    # dependent lung is denser: blood and weight
    image = blend(image, backdrop.lungs, anatomy.lung_hu + 0.28 * (grid.y_mm + 60.0))
    for ellipse, value in _list_organs(anatomy, z_mm):
        patch = _reach(grid, ellipse)
        inside = cover(distance_to_ellipse(x[patch], y[patch], ellipse), backdrop.edge_mm)
        image[patch] = blend(image[patch], inside, value)
    return image


def _reach(grid: Grid, ellipse: Ellipse) -> tuple[slice, slice]:
    """Returns the rows and columns that an ellipse can reach, warped by at most 9 mm."""
    return grid.patch(ellipse.x_mm, ellipse.y_mm, max(ellipse.a_mm, ellipse.b_mm) + 10.0)


def _paint_ribs(backdrop: Backdrop, anatomy: Anatomy, z_mm: float) -> Plane:
    """Returns the chest wall with ribs: bands along it, cut obliquely."""
    x, y, edge_mm = backdrop.x_mm, backdrop.y_mm, backdrop.edge_mm
    image = backdrop.wall_hu.copy()
    for lung, phase in zip(anatomy.lungs, (0.0, 0.35), strict=True):
        side = math.copysign(1.0, lung.x_mm)
        for number in range(6):
            turn = number + (anatomy.rib_phase + phase + z_mm / 22.0) / (2 * math.pi) % 1.0
            angle = side * (-1.25 + 2.9 * turn / 6)
            dx, dy = side * math.cos(angle), side * math.sin(angle)
            at_x = lung.x_mm + (lung.a_mm + 6.5) * dx
            at_y = lung.y_mm + (lung.b_mm + 6.5) * dy
            half_length = 10.0 + 4.0 * math.sin(1.7 * number + anatomy.rib_phase)
            patch = backdrop.grid.patch(at_x, at_y, 1.7 * half_length + 10.0)
            along = (x[patch] - at_x) * -dy * lung.a_mm / lung.b_mm + (y[patch] - at_y) * dx
            band = np.abs(backdrop.outside_mm[patch] - 6.5)
            shape = (np.sqrt((band / 4.2) ** 2 + (along / half_length) ** 2) - 1.0) * 4.2
            bone = blend(image[patch], cover(shape, edge_mm), CORTICAL_BONE_HU * anatomy.bone_scale)
            image[patch] = blend(bone, cover(shape + 1.7, edge_mm), SPONGY_BONE_HU * anatomy.bone_scale)
    return image


def _list_organs(anatomy: Anatomy, z_mm: float) -> list[tuple[Ellipse, float]]:
    """Returns what lies between the lungs, in painting order: outlines and HU."""
    vertebra = spine(anatomy)
    heart, blood, bone = anatomy.heart, anatomy.blood_hu, anatomy.bone_scale
    sternum_y = -anatomy.lungs[0].b_mm - 5
    organs: list[tuple[Ellipse, float]] = [
        (mediastinum(anatomy), -60.0),
        (heart, 45.0),
        (replace(heart, x_mm=heart.x_mm + 9, a_mm=0.5 * heart.a_mm, b_mm=0.8 * heart.b_mm), blood),
        (Ellipse(heart.x_mm - 26, -28.0, 14.0, 15.0), blood * 0.9),
        (Ellipse(-13.0, -22.0, 15.0, 15.0), blood),  # ascending aorta
        (Ellipse(-24.0, -8.0, 8.0, 9.0), blood * 1.1),  # superior vena cava
        (Ellipse(12.0, -10.0, 21.0, 10.0), blood),  # pulmonary trunk
        (vertebra.grown(4.0), MUSCLE_HU),
        (Ellipse(0.0, vertebra.y_mm + 26, 38.0, 17.0), MUSCLE_HU),
        (anatomy.aorta, blood),
        (Ellipse(8.0, 33.0, 6.0, 5.0), 35.0),  # oesophagus
        (vertebra, CORTICAL_BONE_HU * 0.75 * bone),
        (vertebra.grown(-2.2), SPONGY_BONE_HU * bone),
        (Ellipse(0.0, vertebra.y_mm + 30, 5.0, 12.0), CORTICAL_BONE_HU * 0.8 * bone),
        (Ellipse(0.0, vertebra.y_mm + 20, 12.0, 6.0), CORTICAL_BONE_HU * 0.7 * bone),
        (Ellipse(0.0, vertebra.y_mm + 20, 8.5, 5.0), 25.0),  # spinal canal
        (Ellipse(0.0, sternum_y, 20.0, 6.5), CORTICAL_BONE_HU * 0.8 * bone),
        (Ellipse(0.0, sternum_y, 18.0, 4.5), SPONGY_BONE_HU * bone),
    ]
    spread = 15.0 - 0.15 * z_mm
    # below the carina there are two main bronchi in place of the trachea
    for at_x in (-spread, spread) if anatomy.level > 0.55 else (0.0,):
        organs += [(Ellipse(at_x, 12.0, 9.5, 8.5), 20.0), (Ellipse(at_x, 12.0, 8.0, 7.0), AIR_HU)]
    return organs
