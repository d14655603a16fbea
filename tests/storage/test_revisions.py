"""Data that DVC keeps: in a git repository, in a project without git, with a cache or an S3 remote."""

import base64
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tumorflow.errors import SourceError, UnavailableError
from tumorflow.storage import fetched, hash_source, resolve

pytestmark = pytest.mark.usefixtures("away_from_home")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def version(project, tmp_path):
    return hash_source(project / "data", tmp_path / "state")


@pytest.fixture
def pushed(project, bucket, run):
    """The project with its data in S3 alone, as `dvc push` would put them there, only faster."""
    settings = f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://{bucket.name}/dvc\n"
    (project / ".dvc" / "config").write_text(settings)
    bucket.put_folder(project / ".dvc" / "cache" / "files", "dvc/files")
    run("git commit -qam remote", project)
    shutil.rmtree(project / ".dvc" / "cache")
    return project


def test_data_that_dvc_pushed_are_found(project, bucket, version, scratch, run):
    run(f"dvc remote add -q -d storage s3://{bucket.name}/dvc", project)
    run("dvc push -q", project)
    shutil.rmtree(project / ".dvc" / "cache")
    with fetched(f"{project}@", version) as reading:
        assert reading.data_hash == version


def test_a_revision_is_pinned_to_its_commit(project, version, run, tmp_path):
    commit = run("git rev-parse HEAD", project)
    (project / "data" / "a.txt").write_bytes(b"second")
    run("dvc add -q data", project)
    run("git commit -qam second", project)
    for revision in ("v1", commit, commit[:10]):
        resolved = resolve(f"{project}@{revision}", tmp_path)
        assert (resolved.source, resolved.data_hash) == (f"{project}@{commit}", version)
    newest = resolve(f"{project}@main", tmp_path)
    assert newest.data_hash == hash_source(project / "data", tmp_path / "state") != version
    assert resolve(newest.source, tmp_path) == newest


def test_a_clone_knows_branches_tags_and_commits(project, version, run, tmp_path):
    commit = run("git rev-parse HEAD", project)
    run("git branch other", project)
    url = f"file://{project}"
    for revision in ("main", "other", "v1", commit):
        resolved = resolve(f"{url}@{revision}", tmp_path)
        assert (resolved.source, resolved.data_hash) == (f"{url}@{commit}", version)


def test_data_come_from_the_cache_of_a_repository_here(project, version, scratch):
    expected = contents(project / "data")
    shutil.rmtree(project / "data")
    with fetched(f"{project}@v1", version) as reading:
        assert contents(reading.folder) == expected
        assert reading.data_hash == version
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("url", [False, True], ids=["folder", "clone"])
def test_data_come_from_s3(pushed, version, scratch, url):
    expected = contents(pushed / "data")
    shutil.rmtree(pushed / "data")
    with fetched(f"file://{pushed}@main" if url else f"{pushed}@main", version) as reading:
        assert contents(reading.folder) == expected
        assert reading.data_hash == version
    assert list(scratch.iterdir()) == []


def test_a_project_without_git_names_its_data_as_its_files_say(pushed, version, scratch, run):
    expected = contents(pushed / "data")
    shutil.rmtree(pushed / "data")
    shutil.rmtree(pushed / ".git")
    for _ in range(2):
        assert resolve(f"{pushed}@", scratch / "state").data_hash == version
        with fetched(f"{pushed}@", version) as reading:
            assert contents(reading.folder) == expected
        run("dvc config core.no_scm true", pushed)  # as it may say so, or not


IN_A_POD = """
import os, sys
from tumorflow.storage import fetched
for user in (0, 54321):  # at first import everything: the interpreter may lie where others see nothing
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    with fetched(sys.argv[1], sys.argv[2]) as reading:
        print(os.getuid(), sum(path.is_file() for path in reading.folder.rglob("*")))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that owns nothing")
def test_a_pod_that_owns_nothing_can_read_it(pushed, version, scratch):
    """No home, no name for the user, nothing to write but TMPDIR; the project is another's."""
    for path in [pushed, *pushed.parents]:
        if path.is_relative_to(Path(scratch).parents[2]):
            path.chmod(0o755)
    scratch.chmod(0o777)
    shutil.rmtree(pushed / "data")
    environment = {
        name: value for name, value in os.environ.items() if name.startswith(("AWS_", "PATH", "TMPDIR"))
    }
    for source in (f"{pushed}@main", f"{pushed}@", f"file://{pushed}@main"):
        ran = subprocess.run(
            [sys.executable, "-c", IN_A_POD, source, version],
            env={**environment, "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[-1] == "54321 4"
    assert list(scratch.iterdir()) == []


def test_data_that_were_never_pushed(pushed, bucket, scratch):
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    key = next(entry["Key"] for entry in listed if not entry["Key"].endswith(".dir"))
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    with pytest.raises(SourceError, match="dvc push"), fetched(f"{pushed}@main"):
        pass
    assert list(scratch.iterdir()) == []


def test_damaged_data_are_not_those_that_were_promised(pushed, bucket, scratch):
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    key = next(entry["Key"] for entry in listed if not entry["Key"].endswith(".dir"))
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"damaged")
    with (
        pytest.raises(SourceError, match="changed between submission and reading"),
        fetched(f"{pushed}@main"),
    ):
        pass


@pytest.mark.parametrize(
    "listed",
    ['[{"relpath": "../evil", "md5": "OID"}]', '[{"relpath": "a", "md5": "../../../etc/passwd"}]', "{"],
)
def test_a_hostile_list_writes_and_reads_nothing(pushed, bucket, version, scratch, listed):
    oid = "0" * 32
    key = f"dvc/files/md5/{version[:2]}/{version[2:]}.dir"
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=listed.replace("OID", oid).encode())
    with pytest.raises(SourceError), fetched(f"{pushed}@main"):
        pass
    assert list(scratch.iterdir()) == []


def test_a_refusing_store(pushed, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match="refusal"), fetched(f"{pushed}@main"):
        pass


def test_a_store_that_is_away(pushed, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TUMORFLOW_STORE_PATIENCE_S", "0.1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnavailableError, match="DVC's remote answers"), fetched(f"{pushed}@main"):
        pass


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{project}@nothing", "not there"),
        ("{project}@v1:other", r"other\.dvc, which is not there"),
        ("{project}/data@v1", "without git"),
        ("{project}/data@", r"data\.dvc, which is not there"),
        ("file://{project}/data@v1", "does not know it"),
    ],
)
def test_what_is_not_there_is_named(project, tmp_path, source, told):
    with pytest.raises(SourceError, match=told):
        resolve(source.format(project=project), tmp_path)


def test_a_remote_that_is_a_folder_holds_all_or_says_so(project, version, scratch, run):
    remote = project.parent / "remote"
    shutil.copytree(project / ".dvc" / "cache", remote)
    shutil.rmtree(project / ".dvc" / "cache")
    run("dvc remote add -q -d storage ../remote", project)
    with fetched(f"{project}@", version) as reading:
        assert reading.data_hash == version
    next(path for path in remote.rglob("*") if path.is_file() and path.suffix != ".dir").unlink()
    with pytest.raises(SourceError, match="dvc push"), fetched(f"{project}@"):
        pass


def test_a_store_that_comes_back_is_waited_for(project, server, bucket, scratch, tmp_path, run):
    for number in range(60):
        (project / "data" / f"{number:02d}").write_bytes(bytes([number]) * 200_000)
    run("dvc add -q data", project)
    run(f"dvc remote add -q -d storage s3://{bucket.name}/dvc", project)
    bucket.put_folder(project / ".dvc" / "cache" / "files", "dvc/files")
    shutil.rmtree(project / ".dvc" / "cache")
    stopped_at = []

    def interrupt():
        while count(scratch) < 5:
            time.sleep(0.02)
        server.stop()
        stopped_at.append(count(scratch))
        time.sleep(3)
        server.start()

    interruption = threading.Thread(target=interrupt, daemon=True)
    interruption.start()
    try:
        with fetched(f"{project}@") as reading:
            assert contents(reading.folder) == contents(project / "data")
    finally:
        interruption.join(120)
    assert stopped_at[0] < 60


def count(folder):
    return sum(path.is_file() for path in folder.rglob("source/*"))


# dulwich leaves its connections to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_git_server_that_refuses_is_asked_once_and_with_what_git_askpass_tells(tmp_path, monkeypatch):
    asked = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(404 if asked[-1] else 401)
            self.end_headers()

        def log_message(self, *_):
            pass

    answer = tmp_path / "askpass"
    answer.write_text("#!/bin/sh\ncase $1 in User*) echo me ;; *) echo SECRET ;; esac\n")
    answer.chmod(0o755)
    monkeypatch.setenv("GIT_ASKPASS", str(answer))
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(SourceError, match="does not know it, or refuses") as refused:
            resolve(f"http://127.0.0.1:{server.server_port}/data.git@main", tmp_path)
        server.shutdown()
    assert base64.b64decode(asked[-1].removeprefix("Basic ")) == b"me:SECRET"
    assert "SECRET" not in str(refused.value)
    del refused
    gc.collect()


def test_no_remote(project, scratch):
    shutil.rmtree(project / ".dvc" / "cache")
    with pytest.raises(SourceError, match="dvc remote add"), fetched(f"{project}@v1"):
        pass
