"""What people see of the gateway in a browser. Nothing comes from elsewhere, and no script stands in a page."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from swagger_ui_bundle import swagger_ui_path

from models.serving.response_headers import PAGE_POLICY

HERE = Path(__file__).parent
SWAGGER = Path(str(swagger_ui_path))
FILES = {
    "/": HERE / "ask.html",
    "/ask/ask.js": HERE / "ask.js",
    "/ask/ask.css": HERE / "ask.css",
    "/docs": HERE / "docs.html",
    "/docs/docs.js": HERE / "docs.js",
    "/docs/swagger-ui.css": SWAGGER / "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": SWAGGER / "swagger-ui-bundle.js",
    "/docs/icon.png": SWAGGER / "favicon-32x32.png",
}
"""Path → file. Nothing else can be read."""


def add_pages(app: FastAPI) -> None:
    """Serve the pages. They need no key: what they show, they ask for with the key that their user types."""
    for path, file in FILES.items():
        app.add_route(path, _sender(file), methods=["GET"], include_in_schema=False)


def _sender(file: Path) -> Callable[[Request], Awaitable[FileResponse]]:
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}

    async def send(_: Request) -> FileResponse:
        return FileResponse(file, headers=headers)

    return send
