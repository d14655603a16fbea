"""Who is scanned with what: populations that say nothing about the class."""

from dataclasses import dataclass

import numpy as np

from tumorflow.sampling.noise import Sharpness


@dataclass(frozen=True)
class Scanner:
    """A scanner as its headers tell it, and how it stores Hounsfield units."""

    manufacturer: str
    model: str
    soft_kernel: str
    sharp_kernel: str
    rescale_intercept: int
    bits_stored: int
    signed: bool
    implicit_vr: bool

    def kernel(self, sharpness: Sharpness) -> str:
        """Returns the maker's name of the convolution kernel."""
        return self.soft_kernel if sharpness == "soft" else self.sharp_kernel


SCANNERS = (
    Scanner("GE MEDICAL SYSTEMS", "LightSpeed VCT", "STANDARD", "LUNG", -1024, 16, True, implicit_vr=False),
    Scanner("SIEMENS", "NAEOTOM Alpha", "Br40f", "Br64f", -8192, 16, False, implicit_vr=False),
    Scanner("Philips", "Brilliance 64", "B", "L", -1024, 12, False, implicit_vr=True),
    Scanner("TOSHIBA", "Aquilion", "FC08", "FC51", 0, 16, True, implicit_vr=False),
)
THICKNESSES_MM = (1.0, 2.5, 5.0)
SHARPNESSES: tuple[Sharpness, ...] = ("soft", "sharp")
SEXES = ("F", "M")
TUBE_VOLTAGES_KV = (100, 120, 120, 140)
YOUNGEST_YEARS, OLDEST_YEARS = 38, 93


@dataclass(frozen=True)
class Acquisition:
    """How one patient was scanned, and who the patient is said to be."""

    scanner: Scanner
    sharpness: Sharpness
    thickness_mm: float
    sex: str
    age_years: int
    tube_voltage_kv: int


def draw_acquisition(seed: int, position: int) -> Acquisition:
    """Returns the acquisition of the patient at `position` of its class, from 0.

    It hangs on seed and position alone: the patients of all classes at one position were scanned alike and
    are of one sex and age, so that no header tells the class. Scanner, kernel, thickness and sex go round,
    each at its own pace, so that they do not tell one another either.
    """
    random = np.random.default_rng([seed, 3, position])
    return Acquisition(
        scanner=SCANNERS[position % 4],
        sharpness=SHARPNESSES[position // 4 % 2],
        thickness_mm=THICKNESSES_MM[position % 3],
        sex=SEXES[(position // 8 + position) % 2],
        age_years=int(random.integers(YOUNGEST_YEARS, OLDEST_YEARS)),
        tube_voltage_kv=TUBE_VOLTAGES_KV[int(random.integers(len(TUBE_VOLTAGES_KV)))],
    )
