"""A patient's thorax as a CT scanner would show it, slice by slice, in Hounsfield units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumorflow.sampling.anatomy import (
    Anatomy,
    Backdrop,
    Grid,
    Plane,
    blend,
    draw_anatomy,
    make_grid,
    paint_anatomy,
    paint_backdrop,
)
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
    count = int(random.integers(1, 3)) + int(kind == "normal" and random.uniform() < difficulty / 2)
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
        dose=mix(3.0, 2.1, difficulty) * random.uniform(0.7, 1.4),
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
    phantom: Phantom, backdrop: Backdrop, z_mm: float, thickness_mm: float, texture_hu: Plane | float = 0.0
) -> Plane:
    """Returns a slice without blur and noise: float64 HU, (rows, columns).

    Args:
        phantom: the patient.
        backdrop: what the patient's slices share.
        z_mm: height of the slice's middle.
        thickness_mm: of the slice.
        texture_hu: unevenness of the lung's tissue, (rows, columns).
    """
    grid, lungs = backdrop.grid, backdrop.lungs
    image = paint_anatomy(backdrop, phantom.anatomy, z_mm)
    image += lungs * texture_hu
    tubes = paint_vessels(grid, phantom.vessels, z_mm, thickness_mm)
    tubes *= lungs
    image = blend(image, tubes, min(phantom.anatomy.blood_hu, 90.0))
    for mimic in phantom.mimics:
        image = paint_mimic(image, grid, mimic, lungs)
    if phantom.nodule is not None:
        image = paint_nodule(image, grid, phantom.nodule, z_mm, thickness_mm, lungs)
    return image


def scan(
    random: np.random.Generator,
    phantom: Phantom,
    heights_mm: Sequence[float],
    thickness_mm: float,
    sharpness: Sharpness,
    size_px: int = 512,
) -> Iterator[npt.NDArray[np.int16]]:
    """Yields the slices at the given heights as a scanner shows them: int16 HU, (size_px, size_px).

    Values are kept between -1024 and 3071.
    """
    grid = make_phantom_grid(phantom, size_px)
    backdrop = paint_backdrop(grid, phantom.anatomy, max(grid.spacing_mm, 0.3 * thickness_mm))
    # the middle of the body gets fewer photons
    depth = 1.0 - 0.5 * np.clip((grid.x_mm / 190.0) ** 2 + (grid.y_mm / 140.0) ** 2, 0.0, 1.0)
    level = noise_level(sharpness, thickness_mm, phantom.dose) * depth
    for z_mm in heights_mm:
        texture = 22.0 * make_texture(random, grid.shape, grid.spacing_mm)
        tissue = paint_tissue(phantom, backdrop, z_mm, thickness_mm, texture)
        image = blur(tissue, grid.spacing_mm, sharpness)
        image += level * make_noise(random, grid.shape, grid.spacing_mm, sharpness)
        yield np.clip(np.rint(image), LOWEST_HU, HIGHEST_HU).astype(np.int16)
