import os
import time

from tumorflow.serving.scratch import NEW_S, PREFIX, scratch_folder


def leave(parent, name, age_s):
    folder = parent / f"{PREFIX}{name}"
    (folder / "files").mkdir(parents=True)
    (folder / "in-use").touch()
    (folder / "files" / "slice").write_bytes(b"pixels")
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def test_what_a_killed_service_left_is_removed_and_nothing_else(tmp_path):
    killed, starting = leave(tmp_path, "killed", 2 * NEW_S), leave(tmp_path, "starting", 0)
    (tmp_path / "others").mkdir()
    with scratch_folder(tmp_path) as living:
        (living / "slice").touch()
        os.utime(living.parent, (time.time() - 2 * NEW_S,) * 2)
        with scratch_folder(tmp_path) as another:
            assert list(another.iterdir()) == []
            assert (living / "slice").exists(), "its service lives"
        assert not another.parent.exists()
        assert not killed.exists()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "others", starting]
