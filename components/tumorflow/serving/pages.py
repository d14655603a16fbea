"""The web pages: one asks the service, the other runs the model in the browser."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and nothing to elsewhere."""
NOTICES = {
    "server": "What you drop here is sent to this service and answered; its pictures are not kept.",
    "device": "What you drop here stays in this browser: nothing of it is sent.",
}


@dataclass(frozen=True)
class Asset:
    """A file of the pages, as it is sent."""

    content: bytes
    headers: Mapping[str, str]


@cache
def read_assets() -> Mapping[str, Asset]:
    """Returns the pages' files, by their paths below `assets/`."""
    page = files("tumorflow.serving") / "page"
    found = {}
    for folder, before in ((page, ""), (page / "vendor", "vendor/")):
        for file in folder.iterdir():
            name = file.name.removesuffix(".gz")
            kind = TYPES.get(PurePosixPath(name).suffix)
            if kind is not None:
                found[before + name] = _read_asset(file.read_bytes(), kind, packed=name != file.name)
    return found


def _read_asset(content: bytes, kind: str, *, packed: bool) -> Asset:
    headers = {
        "content-type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "cache-control": "no-cache",
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    return Asset(content, {**headers, "content-encoding": "gzip"} if packed else headers)


@cache
def render_page(answers: str) -> Asset:
    """Returns the page whose answers come from the `server` or from the `device`."""
    page = (files("tumorflow.serving") / "page" / "page.html").read_text()
    for name, value in {
        "answers": answers,
        "notice": NOTICES[answers],
        "current_server": 'aria-current="page"' if answers == "server" else "",
        "current_device": 'aria-current="page"' if answers == "device" else "",
    }.items():
        page = page.replace("{{" + name + "}}", value)
    headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": POLICY}
    return Asset(page.encode(), {**headers, "cache-control": "no-cache"})
