import pytest

from tumorflow.errors import UsageError
from tumorflow.storage.addresses import DvcRevision, Folder, S3Prefix, parse

GIT = "https://example.org/team/data.git"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://bucket", S3Prefix("bucket", "")),
        ("s3://bucket/", S3Prefix("bucket", "")),
        ("s3://my.bucket-1/a/b/", S3Prefix("my.bucket-1", "a/b")),
        ("s3://bucket/a@b", S3Prefix("bucket", "a@b")),
        (f"{GIT}@main", DvcRevision(GIT, "main", "data")),
        (f"{GIT}@feature/new:ct/first/", DvcRevision(GIT, "feature/new", "ct/first")),
        ("ssh://git@example.org/data@v1", DvcRevision("ssh://git@example.org/data", "v1", "data")),
        ("git@example.org:team/data.git@v1", DvcRevision("git@example.org:team/data.git", "v1", "data")),
    ],
)
def test_addresses_of_stores(source, expected):
    assert parse(source) == expected


def test_what_exists_is_a_folder_whatever_its_name(tmp_path, monkeypatch):
    (tmp_path / "data@v1").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("data@v1", str(tmp_path / "data@v1"), "."):
        assert isinstance(parse(name), Folder)


def test_a_repository_on_this_machine(tmp_path, monkeypatch):
    (tmp_path / "me@home" / "project").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    root = str(tmp_path / "me@home" / "project")
    assert parse("me@home/project@v1:ct") == DvcRevision(root, "v1", "ct")
    assert parse("me@home/project@") == DvcRevision(root, "", "data")
    assert parse(str(parse("me@home/project@"))) == parse("me@home/project@")
    assert parse(str(parse("me@home/project@v1:ct"))) == parse("me@home/project@v1:ct")


def test_a_path_with_nothing_at_it_is_still_a_folder(tmp_path):
    assert parse(str(tmp_path / "nothing")) == Folder(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "empty"),
        ("a\0b", "control characters"),
        ("s3://", "name of a bucket"),
        ("s3://KEY:SECRET@bucket/a", "AWS_"),
        ("https://TOKEN@example.org/data.git@main", "user or a token"),
        ("https://me:SECRET@example.org/data.git", "user or a token"),
        (GIT, "another kind"),
        ("gs://bucket/a", "another kind"),
        (f"{GIT}@", "without a revision"),
        ("git@example.org:team/data.git", "nor a folder"),
        ("nowhere@v1", "nor a folder"),
        (f"{GIT}@v1:../secret", "leaves the repository"),
        (f"{GIT}@v1:/etc", "leaves the repository"),
        ("C:\\data", "Windows path"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(source, told):
    with pytest.raises(UsageError, match=told) as refused:
        parse(source)
    assert "SECRET" not in str(refused.value)
    assert "TOKEN" not in str(refused.value)
