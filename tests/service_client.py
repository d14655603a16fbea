"""Asks a service as its users do."""

import http.client
import json
import uuid
from types import SimpleNamespace
from typing import Any

import numpy as np

SIZE = 32
CLASSES = ("normal", "benign", "malignant")
ABOUT = {
    "format": 1,
    "registered_model": "tiny",
    "model_hash": "a1" * 32,
    "variant": "float32",
    "classes": list(CLASSES),
    "preprocessing": {
        "method": "windows",
        "intensity_unit": "HU",
        "image_size_px": SIZE,
        "windows": [
            {"window_center_hu": -600.0, "window_width_hu": 1500.0},
            {"window_center_hu": 40.0, "window_width_hu": 400.0},
            {"window_center_hu": 300.0, "window_width_hu": 1500.0},
        ],
    },
    "slice_thickness_mm": [1.0, 5.0],
}


def draw_body(brightness: int = 0) -> np.ndarray:
    """Returns stored values (48, 48) of a disc of tissue in air; with an intercept of −1024."""
    y, x = np.mgrid[:48, :48] - 24
    return np.where(x**2 + y**2 < 400, 1060 + brightness, 24).astype(np.int16)


class Client:
    """Asks a service."""

    def __init__(self, port: int, log: list[str]) -> None:
        self.port = port
        self.log = log

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> SimpleNamespace:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return SimpleNamespace(
            status=answer.status,
            headers={name.lower(): value for name, value in answer.getheaders()},
            content=content,
            json=json.loads(content) if "json" in (answer.getheader("content-type") or "") else None,
        )

    def predict(
        self, *files: bytes, query: str = "", field: str = "files", **headers: str
    ) -> SimpleNamespace:
        body, kind = as_form(files, field)
        return self.ask(f"/predict{query}", "POST", body, {"Content-Type": kind, **headers})


def as_form(files: Any, field: str = "files", name: str = "DOE_JANE.dcm") -> tuple[bytes, str]:
    boundary = uuid.UUID(int=7).hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + file
        + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
