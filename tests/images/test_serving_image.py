import json
import time
from collections.abc import Mapping
from typing import Any

from ct_files import encode_ct
from service_client import draw_body

KEY = "0123456789abcdef0123456789"
ASK = """
import json, sys, urllib.request
body = b'--x\\r\\nContent-Disposition: form-data; name="files"; filename="a"\\r\\n\\r\\n'
body += open('/given/slice.dcm', 'rb').read() + b'\\r\\n--x--\\r\\n'
request = urllib.request.Request('http://127.0.0.1:8080/' + sys.argv[1], method=sys.argv[2])
if sys.argv[2] == 'POST':
    request.data = body
    request.add_header('Content-Type', 'multipart/form-data; boundary=x')
request.add_header('Authorization', 'Bearer ' + sys.argv[3])
print(urllib.request.urlopen(request, timeout=60).read().decode('latin-1'))
"""


def test_the_image_serves_as_nobody_special_without_tensorflow(
    container_engine: Any, built_images: Mapping[str, str], write_model: Any, tmp_path: Any
) -> None:
    write_model(tmp_path / "model.tflite")
    (tmp_path / "slice.dcm").write_bytes(encode_ct(draw_body()))
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    started = container_engine.run(
        "run", "--detach", "--read-only", "--tmpfs", "/tmp", "--user", "12345:0", "--cap-drop", "all",
        "--network", "none", "--env", f"TUMORFLOW_API_KEYS=tests:{KEY}", "--volume", f"{tmp_path}:/given:ro",
        built_images["serving"], "--model", "/given/model.tflite",
    )  # fmt: skip
    name = started.stdout.strip().splitlines()[-1]

    def ask(path: str, method: str = "GET") -> str:
        done = container_engine.run("exec", name, "python", "-c", ASK, path, method, KEY)
        return str(done.stdout)

    try:
        deadline = time.monotonic() + 60
        while "ready" not in ask("readyz") and time.monotonic() < deadline:
            time.sleep(0.5)
        answer = json.loads(ask("predict?explain=1", "POST"))
        assert len(answer["slices"]) == 1
        assert ask("report", "POST").startswith("PK")
        assert "<h1>tumorflow</h1>" in ask("on-device")
        absent = container_engine.run(
            "exec", name, "python", "-c", "import importlib.util as u; print(u.find_spec('tensorflow'))"
        )
        assert absent.stdout.strip() == "None"
        container_engine.run("stop", "--time", "20", name)
        code = container_engine.run("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        assert code == "0", "it ends in order"
    finally:
        container_engine.run("rm", "--force", name)
