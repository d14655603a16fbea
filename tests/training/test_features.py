import numpy as np
import pytest

from tumorflow.errors import DataError, ParameterError, SourceError
from tumorflow.tensorflow_runtime import configure
from tumorflow.training.augmentation import Augmenter, Ranges
from tumorflow.training.batches import source_of_features, source_of_images
from tumorflow.training.features import FeatureFile, compute_features
from tumorflow.training.splits import join, read_tensors

CLASSES = ("normal", "benign", "malignant")
STILL = Augmenter(Ranges(), (0, 0, 0), seed=0)
MOVING = Augmenter(Ranges(shift_fraction=0.5), (0, 0, 0), seed=0)


@pytest.fixture(scope="module")
def mean_of_channels():
    keras = configure(0)
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def test_splits_are_read_in_the_order_of_content(tensors):
    data = read_tensors(tensors, CLASSES)
    assert (len(data.training), len(data.validation)) == (18, 9)
    assert (data.image_size_px, data.air) == (32, (0, 0, 0))
    assert list(data.training.keys) == sorted(data.training.keys)
    everything = np.arange(18)
    brightness = data.training.read(everything).mean(axis=(1, 2, 3))
    # class c of the fixture has the greys 80 c … 80 c + 59
    np.testing.assert_array_equal(brightness // 80, data.training.labels)


def test_slices_come_in_the_order_asked_for(tensors):
    split = read_tensors(tensors, CLASSES).validation  # on both shards
    positions = np.array([8, 0, 3, 3])
    expected = np.stack([split.read(np.array([position]))[0] for position in positions])
    np.testing.assert_array_equal(split.read(positions), expected)


def test_other_classes_than_the_tensors_are_told(tensors):
    with pytest.raises(ParameterError, match=r"\['benign', 'normal'\]"):
        read_tensors(tensors, ("benign", "normal"))


def test_a_missing_index_is_told(tensors, tmp_path):
    (tmp_path / "preprocessing.json").write_bytes((tensors / "preprocessing.json").read_bytes())
    with pytest.raises(SourceError, match=r"index\.parquet"):
        read_tensors(tmp_path, CLASSES)


def test_an_empty_split_is_told(tensors, tmp_path):
    import pandas as pd

    (tmp_path / "preprocessing.json").write_bytes((tensors / "preprocessing.json").read_bytes())
    index = pd.read_parquet(tensors / "index.parquet")
    index[index["split"] != "validation"].to_parquet(tmp_path / "index.parquet")
    with pytest.raises(DataError, match="validation"):
        read_tensors(tmp_path, CLASSES)


def test_rows_of_a_feature_file(tmp_path):
    numbers = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    features = FeatureFile(tmp_path / "rows", (2, 3))
    features.append(numbers[:3])
    features.append(numbers[3:])
    assert features.rows == 4
    np.testing.assert_array_equal(features.read(np.array([3, 0, 3])), numbers[[3, 0, 3]])


def test_features_are_those_of_the_slices_then_of_their_views(tensors, tmp_path, mean_of_channels):
    split = read_tensors(tensors, CLASSES).training
    features = compute_features(tmp_path / "training", split, mean_of_channels, MOVING, views=1)
    assert features.rows == 36
    images = split.read(np.arange(18))
    views = [MOVING(image, key, 1) for image, key in zip(images, split.keys, strict=True)]
    expected = np.concatenate([images, views]).astype(np.float32).mean(axis=(1, 2))
    np.testing.assert_allclose(features.read(np.arange(36)), expected, rtol=1e-5)


def test_features_and_images_make_the_same_batches(tensors, tmp_path, mean_of_channels):
    split = read_tensors(tensors, CLASSES).training
    features = compute_features(tmp_path / "training", split, mean_of_channels, STILL, views=0)
    rows = np.random.default_rng(0).permutation(18)
    cached = list(source_of_features(features, split.labels, 5).batches(rows, 1))
    streamed = list(source_of_images(split, STILL, 0, 5).batches(rows, 1))
    assert [len(labels) for _, labels in cached] == [5, 5, 5, 3]
    for (kept, labels), (images, same_labels) in zip(cached, streamed, strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        np.testing.assert_allclose(kept, images.mean(axis=(1, 2)), rtol=1e-5)


def test_every_epoch_has_views_of_its_own_and_epoch_0_the_slices(tensors):
    split = read_tensors(tensors, CLASSES).training
    image, key = split.read(np.array([2]))[0], split.keys[2]
    source = source_of_images(split, MOVING, views=2, size=8)
    assert source.views == 2
    seen = []
    for epoch in (1, 2):
        ((images, labels),) = source.batches(np.array([2, 18 + 2]), epoch)
        assert labels.tolist() == [split.labels[2]] * 2
        seen.extend(images)
    np.testing.assert_array_equal(seen, [MOVING(image, key, number) for number in (1, 2, 3, 4)])
    ((images, _),) = source.batches(np.array([2]), 0)
    np.testing.assert_array_equal(images, [image])


def test_joined_splits_stand_one_after_the_other(tensors):
    data = read_tensors(tensors, CLASSES)
    joined = join(data.training, data.validation)
    assert len(joined) == 27
    np.testing.assert_array_equal(
        joined.read(np.array([18, 3])),
        [
            data.validation.read(np.array([0]))[0],
            data.training.read(np.array([3]))[0],
        ],
    )
    assert joined.labels.tolist() == [*data.training.labels, *data.validation.labels]
