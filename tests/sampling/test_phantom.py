from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumorflow.sampling.anatomy import (
    Ellipse,
    blend,
    cover,
    distance_to_ellipse,
    draw_anatomy,
    make_grid,
    paint_anatomy,
    paint_backdrop,
    spine,
)
from tumorflow.sampling.lesions import Nodule, draw_diameter, paint_nodule
from tumorflow.sampling.noise import blur, make_noise, make_texture, noise_level
from tumorflow.sampling.phantom import draw_phantom, scan, slice_positions
from tumorflow.sampling.vessels import paint_vessels

PLAIN = Nodule(
    x_mm=0.0,
    y_mm=0.0,
    z_mm=0.0,
    radius_mm=10.0,
    density_hu=40.0,
    calcification="none",
    lobes=(),
    spicules=(),
    halo=0.0,
    rim_mm=0.5,
    speckle=(),
    cavity=0.0,
)
LUNG_HU = -850.0


def draw_nodule_alone(nodule, z_mm=0.0, thickness_mm=1.0):
    grid = make_grid(120, 60.0, 0.0, 0.0)
    lung = np.full(grid.shape, LUNG_HU)
    return paint_nodule(lung, grid, nodule, z_mm, thickness_mm, np.ones(grid.shape))


def plain_anatomy():
    anatomy = draw_anatomy(np.random.default_rng(0))
    still = tuple((0.0, wave_x, wave_y, phase) for _, wave_x, wave_y, phase in anatomy.warp)
    return replace(
        anatomy, warp=still, lung_hu=-860.0, blood_hu=150.0, bone_scale=1.0, fat_mm=15.0, muscle_mm=14.0
    )


def test_a_grid_is_centred_and_spaced_by_field_of_view():
    grid = make_grid(4, 8.0, x_mm=10.0, y_mm=-1.0)
    np.testing.assert_array_equal(grid.x_mm, [[7.0, 9.0, 11.0, 13.0]])
    np.testing.assert_array_equal(grid.y_mm, [[-4.0], [-2.0], [0.0], [2.0]])
    assert grid.patch(9.0, -2.0, 2.0) == (slice(0, 3), slice(0, 3))
    assert grid.patch(500.0, 0.0, 2.0)[1] == slice(4, 4) or 0 in grid.cut(grid.patch(500.0, 0.0, 2.0)).shape


def test_cover_is_one_inside_and_half_on_the_border():
    np.testing.assert_allclose(cover(np.array([-2.0, -0.25, 0.0, 0.25, 2.0]), 1.0), [1, 0.75, 0.5, 0.25, 0])


def test_blend_leaves_its_arguments_alone():
    image, coverage = np.array([0.0, 10.0]), np.array([0.5, 0.0])
    np.testing.assert_array_equal(blend(image, coverage, 100.0), [50.0, 10.0])
    np.testing.assert_array_equal(image, [0.0, 10.0])
    np.testing.assert_array_equal(coverage, [0.5, 0.0])


def test_distance_to_a_circle_is_exact():
    x, y = np.array([[0.5, 3.0, 5.0]]), np.array([[0.0]])
    np.testing.assert_allclose(
        distance_to_ellipse(x, np.broadcast_to(y, x.shape), Ellipse(0, 0, 3, 3)), [[-2.5, 0, 2]], atol=1e-6
    )


@pytest.mark.parametrize(
    ("what", "expected_hu"),
    [("air", -1000.0), ("fat", -105.0), ("blood", 150.0), ("spine", 190.0), ("lung", None)],
)
def test_tissues_have_their_hounsfield_units(what, expected_hu):
    anatomy = plain_anatomy()
    vertebra, body = spine(anatomy), anatomy.body
    x_mm, y_mm = {
        "air": (body.x_mm, body.y_mm - body.b_mm - 5),
        "fat": (body.x_mm + body.a_mm - 8, body.y_mm),
        "blood": (anatomy.aorta.x_mm, anatomy.aorta.y_mm - 4),
        "spine": (vertebra.x_mm - 6, vertebra.y_mm),
        "lung": (anatomy.lungs[0].x_mm - 15, anatomy.lungs[0].y_mm),
    }[what]
    grid = make_grid(3, 1.5, x_mm, y_mm)
    image = paint_anatomy(paint_backdrop(grid, anatomy, 0.5), anatomy, 0.0)
    # dependent lung is denser by 0.28 HU a millimetre
    expected = -860.0 + 0.28 * (y_mm + 60.0) if expected_hu is None else expected_hu
    assert image[1, 1] == pytest.approx(expected, abs=1.0)


def test_a_smooth_nodule_has_its_size_and_density():
    image = draw_nodule_alone(PLAIN)
    assert image[60, 60] == pytest.approx(40.0)
    assert image[5, 5] == LUNG_HU
    area_mm2 = (image > (40 + LUNG_HU) / 2).sum() * 0.5**2
    assert area_mm2 == pytest.approx(np.pi * 10**2, rel=0.03)


def test_a_nodule_is_smaller_off_its_middle_and_gone_beyond_it():
    assert (draw_nodule_alone(PLAIN, z_mm=6.0) > -400).sum() < (draw_nodule_alone(PLAIN) > -400).sum()
    assert (draw_nodule_alone(PLAIN, z_mm=12.0) == LUNG_HU).all()


@pytest.mark.parametrize(("pattern", "middle_hu"), [("central", 420.0), ("diffuse", 240.0), ("none", 40.0)])
def test_calcium_is_dense(pattern, middle_hu):
    assert draw_nodule_alone(replace(PLAIN, calcification=pattern))[60, 60] == pytest.approx(middle_hu)


def test_popcorn_calcium_lies_in_grains():
    grains = replace(PLAIN, calcification="popcorn", speckle=((0.5, 0.0, 0.2), (-0.5, 0.0, 0.2)))
    image = draw_nodule_alone(grains)
    assert image[60, 70] > 350
    assert image[60, 49] > 350
    assert image[60, 60] < 60


def test_spicules_make_the_outline_longer_than_the_area_needs():
    spicules = tuple((angle, 0.0, 0.9, 1.5) for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False))

    def roughness(image):
        solid = image > -400
        border = solid & ~(
            np.roll(solid, 1, 0) & np.roll(solid, -1, 0) & np.roll(solid, 1, 1) & np.roll(solid, -1, 1)
        )
        return border.sum() ** 2 / solid.sum()

    spiculated = draw_nodule_alone(replace(PLAIN, spicules=spicules))
    assert roughness(spiculated) > 2 * roughness(draw_nodule_alone(PLAIN))


def test_a_tube_covers_its_width():
    grid = make_grid(41, 20.5, 0.0, 0.0)
    tube = np.array([[-30.0, 0.0, 0.0, 30.0, 0.0, 0.0, 2.0, 2.0]])
    coverage = paint_vessels(grid, tube, z_mm=0.0, thickness_mm=1.0)
    assert coverage[20, 20] == 1.0
    assert coverage[:, 20].sum() * 0.5 == pytest.approx(4.0, abs=0.3)
    assert paint_vessels(grid, tube, z_mm=9.0, thickness_mm=1.0).max() == 0.0


@pytest.mark.parametrize("sharpness", ["soft", "sharp"])
def test_noise_has_unit_variance_and_no_slow_waves(sharpness):
    noise = make_noise(np.random.default_rng(1), (256, 256), 0.5, sharpness)
    assert noise.std() == pytest.approx(1.0, abs=0.15)
    blocks = noise.reshape(8, 32, 8, 32).mean(axis=(1, 3))
    assert blocks.std() < 0.06  # a Gaussian alone, with grains of this size, leaves 0.17


def test_noise_is_correlated_further_by_a_soft_kernel():
    def neighbour_correlation(sharpness):
        noise = make_noise(np.random.default_rng(1), (256, 256), 0.3, sharpness)
        return np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]

    assert neighbour_correlation("soft") > neighbour_correlation("sharp") > 0


def test_noise_falls_with_thickness_and_rises_with_sharpness():
    assert noise_level("soft", 4.0, 1.0) == 8.0
    assert noise_level("soft", 1.0, 4.0) == 8.0
    assert noise_level("sharp", 1.0, 1.0) > noise_level("soft", 1.0, 1.0)


def test_texture_and_blur_keep_the_shape():
    assert make_texture(np.random.default_rng(0), (30, 41), 0.4).shape == (30, 41)
    np.testing.assert_allclose(blur(np.full((9, 9), 7.0), 0.5, "soft"), 7.0)


def test_slices_are_consecutive_and_meet_the_nodule():
    phantom = replace(draw_phantom(np.random.default_rng(3), "malignant", 0.5), diameter_mm=20.0)
    assert slice_positions(phantom, 3, 2.5) == [-2.5, 0.0, 2.5]
    crowded = slice_positions(phantom, 9, 5.0)
    assert crowded[4] == 0.0
    assert max(crowded) <= 0.36 * 20.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["normal", "benign", "malignant"]), st.floats(0, 1))
def test_nodules_are_8_to_36_mm(seed, kind, difficulty):
    assert 8.0 <= draw_diameter(np.random.default_rng(seed), kind, difficulty) <= 36.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["normal", "benign", "malignant"]), st.floats(0, 1))
def test_every_patient_can_be_scanned(seed, kind, difficulty):
    phantom = draw_phantom(np.random.default_rng(seed), kind, difficulty)
    assert (phantom.nodule is None) == (kind == "normal")
    units = next(scan(np.random.default_rng(seed), phantom, [0.0], 2.5, "soft", 64))
    assert units.dtype == np.int16
    assert units.shape == (64, 64)
    assert units.min() >= -1024
    assert units.max() <= 3071
    assert (units < -600).mean() > 0.15  # there is lung


def test_malignant_nodules_are_wilder_and_the_less_so_the_harder():
    def spicules(kind, difficulty):
        return np.mean(
            [
                len(draw_phantom(np.random.default_rng(seed), kind, difficulty).nodule.spicules)
                for seed in range(24)
            ]
        )

    gaps = [spicules("malignant", level) - spicules("benign", level) for level in (0.0, 0.5, 1.0)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
