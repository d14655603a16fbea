"""The article's method: its defects are part of the baseline, its crash is not."""

import numpy as np

from tumorflow.preprocessing.article import to_article_tensor


def test_a_constant_slice_becomes_black():
    tensor = to_article_tensor(np.full((8, 8), 40, dtype=np.int16), image_size_px=4)
    assert tensor.shape == (4, 4, 3)
    assert not tensor.any()


def test_equalisation_ranks_what_min_max_gives():
    image = np.array([[0, 0], [0, 400]], dtype=np.int16)
    tensor = to_article_tensor(image, image_size_px=2)
    # three quarters of the pixels are not above the lower value: 0.75 × 255 = 191
    assert tensor[:, :, 0].ravel().tolist() == [191, 191, 191, 255]
    assert (tensor[:, :, 0] == tensor[:, :, 2]).all()


def test_metal_moves_tissue_which_is_why_it_is_only_a_baseline():
    image = np.random.default_rng(0).normal(0, 20, (64, 64)).astype(np.int16)
    metal = image.copy()
    metal[:2] = 30_000
    tissue = (slice(8, None), slice(None), 0)
    before, after = (to_article_tensor(each, image_size_px=64)[tissue].astype(int) for each in (image, metal))
    assert np.abs(before - after).mean() > 50
