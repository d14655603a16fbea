"""What the pages take from npm is in the package as a bundle, which must be the one that its sources make."""

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

COMPONENTS = Path(__file__).parents[2] / "components"
VENDOR = Path("tumorflow/serving/page/vendor")
NETWORK_CODES = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EIDLETIMEOUT")


def read_files(folder):
    contents = {file.name: file.read_bytes() for file in folder.iterdir()}
    # gzip's own versions differ in how they pack
    return {
        name: gzip.decompress(content) if name.endswith(".gz") else content
        for name, content in contents.items()
    }


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm")
def test_the_committed_bundle_is_what_its_sources_make(tmp_path):
    shutil.copytree(COMPONENTS / "page", tmp_path / "page", ignore=shutil.ignore_patterns("node_modules"))
    environment = {**os.environ, "npm_config_cache": str(tmp_path / "cache")}
    built = subprocess.run(
        [tmp_path / "page" / "build.sh"], capture_output=True, text=True, check=False, env=environment
    )
    if any(code in built.stderr for code in NETWORK_CODES):
        pytest.skip("needs npm's registry, which is out of reach")
    assert built.returncode == 0, built.stderr
    assert read_files(tmp_path / VENDOR) == read_files(COMPONENTS / VENDOR)
