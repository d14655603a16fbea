"""The web pages: one asks the service, the other runs the model in the browser."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".wasm": "application/wasm"}
TYPES |= {".txt": "text/plain"}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and nothing to elsewhere."""
NOTICES = {
    "server": "What you drop here is sent to this service, answered, and not kept.",
    "device": "What you drop here stays in this browser: nothing of it is sent.",
}


@dataclass(frozen=True)
class Asset:
    """A file of the pages, as it is sent."""

    content: bytes
    headers: Mapping[str, str]


@cache
def read_asset(path: str) -> Asset | None:
    """Returns a file of the pages by its path below `assets/`; None: there is none of that name."""
    folder = files("tumorflow.serving") / "page"
    parts = path.split("/")
    suffix = "." + path.rpartition(".")[2]
    if suffix not in TYPES or suffix == ".html" or not all(part and part[0] != "." for part in parts):
        return None
    headers = {"content-type": f"{TYPES[suffix]}; charset=utf-8", "cache-control": "no-cache"}
    place = folder.joinpath(*parts)
    if not place.is_file():
        place = folder.joinpath(*parts[:-1], f"{parts[-1]}.gz")
        headers["content-encoding"] = "gzip"
    if not place.is_file():
        return None
    content = place.read_bytes()
    headers["etag"] = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return Asset(content, headers)


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
