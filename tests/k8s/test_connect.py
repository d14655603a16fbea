"""The forwards, and the variables that the shell takes. Its kubectl is a stand-in that serves ports here."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CONNECT = Path(__file__).parents[2] / "k8s" / "connect.sh"
PORTS = (8888, 5000, 8333)

KUBECTL = (
    f"#!{sys.executable}\n"
    + r"""
import base64, os, socket, sys, time
arguments = sys.argv[1:]
if "secret" in arguments:
    print(base64.b64encode(b"a-secret").decode(), end="")
elif "get" in arguments:
    sys.exit("tumorflow-s3" in arguments and os.environ["STORE"] != "inside")
else:
    with socket.create_server(("127.0.0.1", int(arguments[-1].partition(":")[0]))):
        time.sleep(60)
"""
)


@pytest.mark.parametrize("store", ["inside", "outside"])
def test_what_is_there_is_forwarded_and_ctrl_c_leaves_it(tmp_path: Path, store: str) -> None:
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port}, which connect.sh forwards to, is taken")
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    done = subprocess.run(
        [CONNECT],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "STORE": store},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    variables = dict(line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines() if line)
    forwards = [int(process) for process in variables["TUMORFLOW_FORWARDS"].strip("'").split()]
    try:
        assert len(forwards) == (3 if store == "inside" else 2)
        assert ("AWS_ENDPOINT_URL" in variables) == (store == "inside")
        assert variables["MLFLOW_TRACKING_PASSWORD"] == "'a-secret'"
        assert all(os.getpgid(process) == process for process in forwards), "out of the reach of Ctrl-C"
    finally:
        for process in forwards:
            os.kill(process, signal.SIGTERM)
