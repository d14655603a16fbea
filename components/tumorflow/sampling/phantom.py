"""A patient's thorax as a CT scanner would show it, slice by slice, in Hounsfield units."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumorflow.sampling.anatomy import Anatomy, Grid, Plane, draw_anatomy, make_grid, paint_anatomy
from tumorflow.sampling.lesions import (
    Kind,
    Mimic,
    Nodule,
    draw_diameter,
    draw_mimics,
    draw_nodule,
    mix,
    paint_mimic,
    paint_nodule,
    place,
)
from tumorflow.sampling.noise import Sharpness, blur, make_noise, make_texture, noise_level
from tumorflow.sampling.vessels import Segments, grow_vessels, paint_vessels

FIELD_OF_VIEW_MM = (125.0, 145.0)
LOWEST_HU, HIGHEST_HU = -1024, 3071


@dataclass(frozen=True)
class Phantom:
    """One patient: anatomy, vessels, what is in the lung, and where the scanner looks."""

    anatomy: Anatomy
    lung: int
    vessels: Segments
    nodule: Nodule | None
    mimics: tuple[Mimic, ...]
    diameter_mm: float
    """The nodule's diameter; where there is none, one drawn alike, so that geometry tells nothing."""
    field_of_view_mm: float
    center_mm: tuple[float, float]
    dose: float


def draw_phantom(random: np.random.Generator, kind: Kind, difficulty: float) -> Phantom:
    """Returns a patient of the given kind; `difficulty` from 0 (plain) to 1 (hard).

    The field of view is targeted at a site in one lung, as for the work-up of a nodule; it is drawn alike
    for all kinds. Every patient has scars or large vessels there; where there is no nodule there is one of
    them more, the likelier the harder, so that counting bright things does not tell who is ill.
    """
    anatomy = draw_anatomy(random)
    lung = int(random.integers(2))
    outline = anatomy.lungs[lung]
    diameter = draw_diameter(random, kind, difficulty)
    site = place(random, anatomy, lung, diameter / 2)
    count = int(random.integers(1, 3)) + int(kind == "normal" and random.uniform() < difficulty)
    nodule = None if kind == "normal" else draw_nodule(random, site, kind, diameter, difficulty)
    lean = random.uniform(0.6, 0.95)
    return Phantom(
        anatomy=anatomy,
        lung=lung,
        vessels=grow_vessels(random, anatomy, lung),
        nodule=nodule,
        mimics=draw_mimics(random, anatomy, lung, count, difficulty),
        diameter_mm=diameter,
        field_of_view_mm=float(round(random.uniform(*FIELD_OF_VIEW_MM))),
        center_mm=(
            float(round(mix(outline.x_mm * 0.94, site[0], lean))),
            float(round(mix(outline.y_mm, site[1], lean))),
        ),
        dose=mix(3.0, 1.2, difficulty) * random.uniform(0.7, 1.4),
    )


def slice_positions(phantom: Phantom, slices: int, thickness_mm: float) -> list[float]:
    """Returns the heights of consecutive slices in mm, upwards, the nodule's middle among them.

    Slices follow at their thickness, or closer (overlapping reconstruction) where else the outer ones
    would miss a nodule of this size.
    """
    spacing = min(thickness_mm, round(0.7 * phantom.diameter_mm / max(1, slices - 1), 2))
    return [round((number - (slices - 1) / 2) * spacing, 4) for number in range(slices)]


def make_phantom_grid(phantom: Phantom, size_px: int) -> Grid:
    """Returns where the pixels of the patient's slices lie."""
    return make_grid(size_px, phantom.field_of_view_mm, *phantom.center_mm)


def paint_tissue(
    phantom: Phantom, grid: Grid, z_mm: float, thickness_mm: float, texture: Plane | None = None
) -> Plane:
    """Returns a slice without blur and noise, float64 HU.

    Arguments:
        texture: unevenness of the lung's tissue in HU, (rows, columns); none where it is left out.
    """
    image, lungs = paint_anatomy(grid, phantom.anatomy, z_mm, max(grid.spacing_mm, 0.3 * thickness_mm))
    if texture is not None:
        image = image + lungs * texture
    tubes = paint_vessels(grid, phantom.vessels, z_mm, thickness_mm) * lungs
    image = image + tubes * (min(phantom.anatomy.blood_hu, 90.0) - image)
    for mimic in phantom.mimics:
        image = paint_mimic(image, grid, mimic, lungs)
    if phantom.nodule is not None:
        image = paint_nodule(image, grid, phantom.nodule, z_mm, thickness_mm, lungs)
    return image


def scan_slice(
    random: np.random.Generator,
    phantom: Phantom,
    z_mm: float,
    thickness_mm: float,
    sharpness: Sharpness,
    size_px: int = 512,
) -> npt.NDArray[np.int16]:
    """Returns a slice as the scanner shows it: int16 HU, (size_px, size_px), -1024 to 3071."""
    grid = make_phantom_grid(phantom, size_px)
    texture = 22.0 * make_texture(random, grid.shape, grid.spacing_mm)
    image = blur(paint_tissue(phantom, grid, z_mm, thickness_mm, texture), grid.spacing_mm, sharpness)
    # the middle of the body gets fewer photons
    depth = 1.0 - 0.5 * np.clip((grid.x_mm / 190.0) ** 2 + (grid.y_mm / 140.0) ** 2, 0.0, 1.0)
    level = noise_level(sharpness, thickness_mm, phantom.dose)
    noisy = image + level * depth * make_noise(random, grid.shape, grid.spacing_mm, sharpness)
    return np.clip(np.rint(noisy), LOWEST_HU, HIGHEST_HU).astype(np.int16)


def nodule_extent_mm(nodule: Nodule, z_mm: float) -> float:
    """Returns the nodule's mean diameter in the plane at `z_mm`, without spicules; 0 where it is missed."""
    height = (z_mm - nodule.z_mm) / nodule.radius_mm
    return 2 * nodule.radius_mm * math.sqrt(max(0.0, 1 - height * height))
