"""What is seen in the lung beside its vessels: nodules, and what is mistaken for them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tumorflow.sampling.anatomy import Anatomy, Ellipse, Grid, Plane, blend, cover, mediastinum, spine

Kind = Literal["normal", "benign", "malignant"]
Calcification = Literal["none", "central", "popcorn", "diffuse", "eccentric"]


@dataclass(frozen=True)
class Nodule:
    """A nodule; a place in mm, and shape relative to its radius."""

    x_mm: float
    y_mm: float
    z_mm: float
    radius_mm: float
    density_hu: float
    calcification: Calcification
    lobes: tuple[tuple[int, float, float], ...]
    """Waves around the outline: how many, how high relative to the radius, phase."""
    spicules: tuple[tuple[float, float, float, float], ...]
    """Angle, height off the middle and length relative to the radius, width in mm."""
    halo: float
    """Share of ground glass around the nodule, 0–1."""
    rim_mm: float
    """How soft the border is."""
    speckle: tuple[tuple[float, float, float], ...]
    """Calcium grains or small cavities: place relative to the radius, and size relative to the radius."""
    cavity: float
    """Radius of an air-filled hollow, relative to the nodule's."""


@dataclass(frozen=True)
class Mimic:
    """A scar, a plate of atelectasis or a vessel cut across: bright, and no nodule."""

    x_mm: float
    y_mm: float
    angle: float
    half_length_mm: float
    half_width_mm: float
    bend: float
    density_hu: float
    rim_mm: float


def mix(easy: float, hard: float, difficulty: float) -> float:
    """Returns the value between `easy` (difficulty 0) and `hard` (difficulty 1)."""
    return easy + (hard - easy) * difficulty


def place(random: np.random.Generator, anatomy: Anatomy, lung: int, radius_mm: float) -> tuple[float, float]:
    """Returns a point in the lung, as far from its borders as `radius_mm` if there is such a one."""
    outline = anatomy.lungs[lung]
    best, best_room = (outline.x_mm, outline.y_mm), -math.inf
    for _ in range(40):
        x = outline.x_mm + outline.a_mm * random.uniform(-0.8, 0.8)
        y = outline.y_mm + outline.b_mm * random.uniform(-0.75, 0.75)
        room = min(
            -_distance(x, y, outline),
            _distance(x, y, mediastinum(anatomy)),
            _distance(x, y, anatomy.heart),
            _distance(x, y, spine(anatomy).grown(4.0)),
        )
        if room > radius_mm + 3:
            return x, y
        if room > best_room:
            best, best_room = (x, y), room
    return best


def _distance(x_mm: float, y_mm: float, ellipse: Ellipse) -> float:
    q = math.hypot((x_mm - ellipse.x_mm) / ellipse.a_mm, (y_mm - ellipse.y_mm) / ellipse.b_mm)
    return (q - 1) * min(ellipse.a_mm, ellipse.b_mm)


def draw_diameter(random: np.random.Generator, kind: Kind, difficulty: float) -> float:
    """Returns a nodule's diameter without spicules, 8–36 mm.

    Spicules and lobes make malignant ones look larger; their bodies are drawn smaller, the more the harder,
    so that size is no short cut.
    """
    larger = {"normal": 0.0, "benign": 0.5, "malignant": -0.5}[kind] * mix(2.0, 6.0, difficulty)
    return min(
        36.0, max(8.0, random.uniform(mix(18.0, 10.0, difficulty), mix(33.0, 29.0, difficulty)) + larger)
    )


def draw_nodule(
    random: np.random.Generator,
    site_mm: tuple[float, float],
    kind: Kind,
    diameter_mm: float,
    difficulty: float,
) -> Nodule:
    """Returns a benign (round, lobulated, perhaps calcified) or malignant (spiculated, irregular) nodule.

    The harder, the more the two share: malignant ones lose spicules, benign ones gain a few.
    """
    radius = diameter_mm / 2
    malignant = kind == "malignant"
    if malignant:
        wildness = min(1.0, max(0.0, random.normal(mix(1.1, 0.85, difficulty), mix(0.1, 0.2, difficulty))))
        calcium = "eccentric" if random.uniform() < 0.12 else "none"
    else:
        wildness = min(
            1.0, max(0.0, random.normal(mix(-0.05, 0.035, difficulty), mix(0.02, 0.11, difficulty)))
        )
        patterns = ("central", "popcorn", "diffuse")
        calcium = (
            patterns[int(random.integers(3))] if random.uniform() < mix(0.5, 0.43, difficulty) else "none"
        )
    lobes = tuple(
        (
            waves,
            (0.02 + 0.22 * wildness) * random.uniform(0.4, 1.0) * 2 / waves,
            random.uniform(0, 2 * math.pi),
        )
        for waves in (2, 3, 5, 7)
    )
    count = round(wildness * random.uniform(20, 36))
    spicules = tuple(
        (
            random.uniform(0, 2 * math.pi),
            random.uniform(-0.8, 0.8),
            random.uniform(0.4, 1.4) * (0.5 + 0.5 * wildness),
            random.uniform(0.9, 1.9),
        )
        for _ in range(count)
    )
    speckle = tuple(
        (random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), random.uniform(0.10, 0.26)) for _ in range(7)
    )
    return Nodule(
        x_mm=site_mm[0],
        y_mm=site_mm[1],
        z_mm=0.0,
        radius_mm=radius,
        density_hu=random.uniform(-40, 65) + 35 * wildness - 25 * difficulty * random.uniform(),
        calcification=calcium,  # type: ignore[arg-type]
        lobes=lobes,
        spicules=spicules,
        halo=wildness * random.uniform(0.2, 0.6),
        rim_mm=0.7 + 1.6 * wildness * random.uniform(),
        speckle=speckle,
        cavity=random.uniform(0.2, 0.4) if malignant and random.uniform() < 0.15 else 0.0,
    )


def draw_mimics(
    random: np.random.Generator, anatomy: Anatomy, lung: int, count: int, difficulty: float
) -> tuple[Mimic, ...]:
    """Returns `count` bright things that are no nodules."""
    mimics = []
    for _ in range(count):
        if random.uniform() < 0.45:  # a vessel cut across or along, near the hilum
            half_width = random.uniform(3.0, mix(5.5, 5.75, difficulty))
            half_length = half_width * random.uniform(1.0, 1.6)
            outline = anatomy.lungs[lung]
            side = math.copysign(1.0, outline.x_mm)
            x, y = side * random.uniform(40, 58), random.uniform(-18, 26)
            density, rim = anatomy.blood_hu, 0.8
        else:  # a scar or a plate of atelectasis
            half_width = random.uniform(3.0, mix(6.0, 7.0, difficulty))
            half_length = random.uniform(14, mix(22.0, 26.0, difficulty))
            x, y = place(random, anatomy, lung, 9.0)
            density, rim = random.uniform(-120, 60), random.uniform(0.8, 2.5)
            if random.uniform() < 0.15:
                density = random.uniform(150, 500)  # an old scar with calcium
        mimics.append(
            Mimic(
                x,
                y,
                random.uniform(0, math.pi),
                half_length,
                half_width,
                random.uniform(-0.009, 0.009),
                density,
                rim,
            )
        )
    return tuple(mimics)


def paint_mimic(image: Plane, grid: Grid, mimic: Mimic, lungs: Plane) -> Plane:
    """Returns `image` (HU) with the mimic in it, within the lungs only."""
    patch = grid.patch(mimic.x_mm, mimic.y_mm, mimic.half_length_mm + 4)
    local = grid.cut(patch)
    if 0 in local.shape:
        return image
    c, s = math.cos(mimic.angle), math.sin(mimic.angle)
    dx, dy = local.x_mm - mimic.x_mm, local.y_mm - mimic.y_mm
    along = dx * c + dy * s
    across = dy * c - dx * s + mimic.bend * along * along
    q = np.sqrt((along / mimic.half_length_mm) ** 2 + (across / mimic.half_width_mm) ** 2)
    coverage = cover((q - 1) * mimic.half_width_mm, mimic.rim_mm) * lungs[patch]
    return _with_patch(image, patch, coverage, mimic.density_hu)


def paint_nodule(
    image: Plane, grid: Grid, nodule: Nodule, z_mm: float, thickness_mm: float, lungs: Plane
) -> Plane:
    """Returns `image` (HU) with the nodule in it, averaged over the slice's thickness."""
    patch = grid.patch(nodule.x_mm, nodule.y_mm, 2.5 * nodule.radius_mm + 3)
    local = grid.cut(patch)
    if 0 in local.shape:
        return image
    dx, dy = local.x_mm - nodule.x_mm, local.y_mm - nodule.y_mm
    distance = np.sqrt(dx * dx + dy * dy) + 1e-9
    angle = np.arctan2(dy, dx)
    outline = np.ones(local.shape)
    for waves, height, phase in nodule.lobes:
        outline = outline + height * np.sin(waves * angle + phase)
    before = image[patch]
    levels = [z_mm + thickness_mm * share - nodule.z_mm for share in (-1 / 3, 0.0, 1 / 3)]
    painted = [
        _paint_level(before, nodule, level, (dx, dy), distance, outline, grid.spacing_mm) for level in levels
    ]
    result = image.copy()
    result[patch] = before + lungs[patch] * (sum(painted[1:], painted[0]) / len(painted) - before)
    return result


def _paint_level(
    image: Plane,
    nodule: Nodule,
    level_mm: float,
    offsets: tuple[Plane, Plane],
    distance: Plane,
    outline: Plane,
    spacing_mm: float,
) -> Plane:
    """Returns the patch as an infinitely thin slice `level_mm` above the nodule's middle shows it."""
    dx, dy = offsets
    height = level_mm / nodule.radius_mm
    radius = nodule.radius_mm * math.sqrt(max(0.0, 1.0 - height * height))
    edge = max(spacing_mm, nodule.rim_mm)
    if radius < 0.5:
        return image
    if nodule.halo:
        fade = cover(distance - radius * (outline + 0.25), 0.6 * nodule.radius_mm)
        image = image + nodule.halo * fade * (-450.0 - image)
    solid = cover(distance - radius * outline, edge)
    for angle, off, length, width in nodule.spicules:
        visible = 1.0 - ((height - off) / 0.7) ** 2
        if visible <= 0:
            continue
        c, s = math.cos(angle), math.sin(angle)
        along = dx * c + dy * s
        across = np.abs(dy * c - dx * s)
        reach = radius + length * nodule.radius_mm * visible
        taper = width * np.clip((reach - along) / (reach - 0.5 * radius + 1e-9), 0.0, 1.0)
        spike = cover(across - taper, max(spacing_mm, 0.7)) * (along > 0) * (along < reach)
        solid = np.maximum(solid, spike)
    image = image + solid * (nodule.density_hu - image)
    if nodule.cavity:
        image = image + cover(distance - radius * nodule.cavity * outline, 1.5) * (-850.0 - image)
    return _calcify(image, nodule, radius, (dx, dy), distance)


def _calcify(
    image: Plane, nodule: Nodule, radius: float, offsets: tuple[Plane, Plane], distance: Plane
) -> Plane:
    """Returns the patch with the nodule's calcium (Erasmus et al., RadioGraphics 2000;20:43–58)."""
    dx, dy = offsets
    if nodule.calcification == "central":
        return image + cover(distance - 0.45 * radius, 1.5) * (420.0 - image)
    if nodule.calcification == "diffuse":
        return image + cover(distance - 0.86 * radius, 1.5) * (240.0 - image)
    grains = {"popcorn": nodule.speckle, "eccentric": nodule.speckle[:1]}.get(nodule.calcification, ())
    for at_x, at_y, size in grains:
        away = np.sqrt((dx - at_x * radius) ** 2 + (dy - at_y * radius) ** 2)
        image = image + cover(away - size * radius, 1.2) * (380.0 - image)
    return image


def _with_patch(image: Plane, patch: tuple[slice, slice], coverage: Plane, value_hu: float) -> Plane:
    result = image.copy()
    result[patch] = blend(image[patch], coverage, value_hu)
    return result
