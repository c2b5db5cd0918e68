"""The demo page's routes: `/`, `/uppy`, and below `/demo/` what they load.

Owns which files are served and their strict headers. Knows nothing of uploads; the page is told the
endpoint by `/demo/config.json`. Without built scripts, a plain page says how to build them.

Files are small and read once, when the routes are made.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tusd_py import __version__
from tusd_py.http.static_files import files_in
from tusd_py.settings import Settings

HERE = Path(__file__).parent
STATIC = HERE / "static"
"""What `npm run build` makes of `web/`; absent in a checkout without npm."""
HTML = HERE / "html"
PAGES = {"/": "index.html", "/uppy": "uppy.html"}
PLAIN = "plain.html"
BUILT = "upload.js"

HEADERS = {
    # Pictures: thumbnails of chosen files are blobs, icons in the stylesheets are data.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def routes(settings: Settings, *, static_dir: Path = STATIC) -> list[BaseRoute]:
    """The routes, to be placed behind the application's own; they work under any `root_path`."""
    built = (static_dir / BUILT).is_file()
    files = files_in(HTML, static_dir)
    pages = {path: files[name if built else PLAIN] for path, name in PAGES.items()}
    assets = {name: file for name, file in files.items() if not name.endswith(".html")}

    async def page(request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        return pages[path or "/"].answer(request, HEADERS)

    async def asset(request: Request) -> Response:
        file = assets.get(request.path_params["name"])
        return file.answer(request, HEADERS) if file else Response(status_code=404, headers=HEADERS)

    async def config(request: Request) -> Response:
        endpoint = f"{request.scope.get('root_path', '')}{settings.base_path}"
        told = {"endpoint": endpoint, "maxSize": settings.max_size, "version": __version__}
        return JSONResponse(told, headers=HEADERS | {"Cache-Control": "no-store"})

    return [
        *(Route(path, page) for path in PAGES),
        Route("/demo/config.json", config),
        Route("/demo/{name}", asset),
    ]
