from tumorflow.serving.scratch import PREFIX, scratch_folder


def leave(parent, name):
    folder = parent / f"{PREFIX}{name}"
    (folder / "files").mkdir(parents=True)
    (folder / "in-use").touch()
    (folder / "files" / "slice").write_bytes(b"pixels")
    return folder


def test_what_a_killed_service_left_is_removed_and_nothing_else(tmp_path):
    killed = leave(tmp_path, "killed")
    (tmp_path / "others").mkdir()
    with scratch_folder(tmp_path) as living:
        (living / "slice").touch()
        assert not killed.exists()
        with scratch_folder(tmp_path) as another:
            assert list(another.iterdir()) == []
            assert (living / "slice").exists(), "its service lives"
        assert not another.parent.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "others"]
