"""Prefixes of a real S3 server."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tumorflow.errors import SourceError, UnavailableError, UsageError
from tumorflow.storage import fetched, hash_source, resolve, s3
from tumorflow.storage.addresses import S3Prefix

pytestmark = pytest.mark.usefixtures("away_from_home")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_prefix_has_the_content_and_the_version_of_the_folder(bucket, folder, scratch, tmp_path):
    bucket.put_folder(folder, "cohorts/first")
    with fetched(f"s3://{bucket.name}/cohorts/first") as reading:
        assert contents(reading.folder) == contents(folder)
        assert reading.data_hash == hash_source(folder, tmp_path / "state")
    assert list(scratch.iterdir()) == []


def test_a_prefix_is_a_whole_folder(bucket, scratch):
    for key in ("data/a", "data/", "database/b", "data/inner/", "data2"):
        bucket.put(key, b"" if key.endswith("/") else b"x")
    with fetched(f"s3://{bucket.name}/data/") as reading:
        assert contents(reading.folder) == {"a": b"x"}
    with fetched(f"s3://{bucket.name}") as reading:
        assert sorted(contents(reading.folder)) == ["data/a", "data2", "database/b"]


def test_a_listing_is_a_version_that_any_change_changes(bucket, tmp_path):
    source = f"s3://{bucket.name}/data"
    bucket.put("data/a", b"1")
    versions = [resolve(source, tmp_path)]
    assert resolve(source, tmp_path) == versions[0]
    assert versions[0].source == source
    for key, content in (("data/a", b"2"), ("data/b", b"1")):
        bucket.put(key, content)
        versions.append(resolve(source, tmp_path))
    bucket.client.delete_object(Bucket=bucket.name, Key="data/a")
    versions.append(resolve(source, tmp_path))
    assert len({version.data_hash for version in versions}) == 4
    assert all(version.data_hash.startswith("s3-") for version in versions)


def test_the_listing_s_hash_is_written_out_by_hand():
    objects = [s3.StoredObject("b", 2, '"y"'), s3.StoredObject("a", 1, '"x"')]
    expected = hashlib.sha256(b"a\x001\x00x\x00b\x002\x00y\x00").hexdigest()
    assert s3.hash_listing(objects) == f"s3-{expected}"


def test_what_was_promised_is_what_is_read(bucket, folder, scratch, tmp_path):
    bucket.put_folder(folder, "data")
    source = f"s3://{bucket.name}/data"
    listing = resolve(source, tmp_path).data_hash
    content = hash_source(folder, tmp_path / "state")
    for promise in ("", listing, content):
        with fetched(source, promise) as reading:
            assert reading.data_hash == content
    bucket.put("data/a.txt", b"changed")
    for promise in (listing, content):
        with (
            pytest.raises(SourceError, match="changed between submission and reading"),
            fetched(source, promise),
        ):
            pass
    assert list(scratch.iterdir()) == []


def test_an_object_that_changes_between_listing_and_reading_stops_the_step(bucket, tmp_path):
    bucket.put("data/a", b"before")
    address, client = S3Prefix(bucket.name, "data"), s3.connect()
    objects = s3.list_objects(client, address, 1)
    bucket.put("data/a", b"behind")
    with pytest.raises(SourceError, match="changed or vanished"):
        s3.download(client, address, objects, tmp_path / "changed", 1)
    bucket.client.delete_object(Bucket=bucket.name, Key="data/a")
    with pytest.raises(SourceError, match="changed or vanished"):
        s3.download(client, address, objects, tmp_path / "vanished", 1)


def test_more_objects_than_fit_a_page(bucket, scratch, monkeypatch):
    names = [f"{number % 40:02d}/{number:06d}" for number in range(105)]
    monkeypatch.setattr(s3, "PAGE_KEYS", 10)  # a thousand more would take the server a minute
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: bucket.put(f"many/{name}", b""), names))
    with fetched(f"s3://{bucket.name}/many") as reading:
        assert contents(reading.folder) == dict.fromkeys(names, b"")


def test_hostile_keys_write_nothing(bucket, scratch):
    bucket.put("data/good")
    bucket.put("data/DOE^JANE\\evil")
    with pytest.raises(SourceError, match="1 of 2") as refused, fetched(f"s3://{bucket.name}/data"):
        pass
    assert "DOE" not in str(refused.value)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "key", ["../evil", "/evil", "a/../../evil", "a//b", ".", "..", "a/.", "x" * 300, "a\0b"]
)
def test_no_key_leaves_the_folder(tmp_path, key):
    objects = [s3.StoredObject("good", 0, ""), s3.StoredObject(key, 0, "")]
    with pytest.raises(SourceError, match="1 of 2"):
        s3.download(None, S3Prefix("bucket", ""), objects, tmp_path / "inside", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_file_and_folder_is_refused(bucket, scratch):
    bucket.put("data/a")
    bucket.put("data/a/b")
    with pytest.raises(SourceError, match="1 of 2"), fetched(f"s3://{bucket.name}/data"):
        pass


def test_nothing_below_the_prefix(bucket, tmp_path):
    bucket.put("data/", b"")
    with pytest.raises(SourceError, match="none below the prefix"):
        resolve(f"s3://{bucket.name}/data", tmp_path)


def test_a_missing_bucket_is_named(bucket, tmp_path):
    with pytest.raises(SourceError, match="'no-such-bucket', which the store does not know"):
        resolve("s3://no-such-bucket/DOE", tmp_path)


@pytest.mark.parametrize(("name", "value"), [("SECRET_ACCESS_KEY", "wrong"), ("ACCESS_KEY_ID", "wrong:user")])
def test_wrong_credentials_are_told_and_not_repeated(bucket, monkeypatch, tmp_path, name, value):
    monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(SourceError, match=r"\(403\)") as refused:
        resolve(f"s3://{bucket.name}/data", tmp_path)
    assert value not in str(refused.value)


def test_no_credentials(bucket, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UsageError, match="PartialCredentialsError"):
        resolve(f"s3://{bucket.name}/data", tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SourceError, match="NoCredentialsError"):
        resolve(f"s3://{bucket.name}/data", tmp_path)


def test_an_endpoint_that_is_none(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nowhere")
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL"):
        resolve(f"s3://{bucket.name}/data", tmp_path)


def test_a_store_that_stays_away_is_one_message(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TUMORFLOW_STORE_PATIENCE_S", "0.1")
    with pytest.raises(UnavailableError, match=r"answers.*EndpointConnectionError") as away:
        resolve(f"s3://{bucket.name}/DOE^JANE", tmp_path)
    assert bucket.name in str(away.value)
    assert "DOE" not in str(away.value)


@pytest.fixture
def interrupted(server, scratch):
    """Stops the server when a few files have come, and starts it again after some seconds."""
    seen = []

    def interrupt(away_s):
        while not seen:
            files = sum(path.is_file() for path in scratch.rglob("*"))
            if files >= 20:
                server.stop()
                seen.append(files)
            time.sleep(0.01)
        time.sleep(away_s)
        server.start()

    threads = []

    def begin(away_s):
        threads.append(threading.Thread(target=interrupt, args=(away_s,), daemon=True))
        threads[0].start()
        return seen

    yield begin
    threads[0].join(60)
    server.start()


def put_many(bucket, count=300, size=300_000):
    content = {f"{number:04d}": f"{number:04d}".encode() * (size // 4) for number in range(count)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: bucket.put(f"data/{name}", content[name]), content))
    return content


def test_a_store_that_comes_back_is_waited_for(bucket, interrupted):
    content = put_many(bucket)
    seen = interrupted(3)
    with fetched(f"s3://{bucket.name}/data") as reading:
        assert 20 <= seen[0] < len(content)  # it was stopped in the middle
        assert contents(reading.folder) == content


def test_a_store_that_goes_for_good_leaves_nothing(bucket, interrupted, scratch, monkeypatch):
    monkeypatch.setenv("TUMORFLOW_STORE_PATIENCE_S", "1")
    put_many(bucket)
    interrupted(8)
    with (
        pytest.raises(UnavailableError, match=f"'{bucket.name}' answers"),
        fetched(f"s3://{bucket.name}/data"),
    ):
        pass
    assert list(scratch.iterdir()) == []
