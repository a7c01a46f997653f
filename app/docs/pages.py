"""`/docs`: the OpenAPI document and three viewers of it, with everything they load served from here."""

import gzip
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import FromPath

from app.docs.document import Config
from db.currencies import in_words

PATH = "/docs"

_FOLDER = Path(__file__).parent / "assets"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}

# As wide as the three need it: they write styles and read the document, and load nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}: {viewer}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
{styles}
</head>
<body>
<nav>{links}</nav>
<div id="docs"></div>
<noscript>{viewer} needs JavaScript. The document itself is at <a href="{document}">{document}</a>.</noscript>
<script src="{script}"></script>
<script src="/docs/assets/start.js" data-viewer="{name}" data-document="{document}"></script>
</body>
</html>
"""


class Viewer(OpenAPIRenderPlugin):
    """One of the pages. `assets` are its script and, where it has any, its styles, without the folder."""

    def __init__(self, name: str, title: str, *assets: str) -> None:
        super().__init__(path=f"/{name}")
        self.name = name
        self.title = title
        self.script, *self.styles = assets

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page: it names its scripts, and has none in itself."""
        here = ' aria-current="page"'
        links = [f'<a href="{PATH}/{each.name}"{here if each is self else ""}>{each.title}</a>' for each in VIEWERS]
        return _PAGE.format(
            title=openapi_schema["info"]["title"],
            viewer=self.title,
            name=self.name,
            styles="\n".join(f'<link rel="stylesheet" href="{_asset(each)}">' for each in [*self.styles, "page.css"]),
            links="".join([*links, f'<a href="{PATH}/openapi.json">openapi.json</a>']),
            document=f"{PATH}/openapi.json",
            script=_asset(self.script),
        ).encode()


# The first one is also the page at `/docs`.
VIEWERS = [
    Viewer("swagger", "Swagger UI", "swagger-ui-5.35.0.js", "swagger-ui-5.35.0.css"),
    Viewer("redoc", "ReDoc", "redoc-2.5.4.js"),
    Viewer("scalar", "Scalar", "scalar-1.72.1.js"),
]


def openapi() -> Config:
    """What the document says of the whole, for one application: its routes, and so itself, are in the router."""
    return Config(
        title="Wallet API",
        version=version("wallet-api"),
        description=(
            f"Electronic wallets in {in_words('and')}: deposit, withdraw, and send money to any wallet number, across"
            " currencies at a live rate. Refusals and errors are problem documents (RFC 9457) with a stable `code`."
            " Besides what is listed with each operation, an unknown path returns 404 `not_found`, and an unsupported"
            " method returns 405 `method_not_allowed`. A trailing slash makes no difference.\n\n"
            "Text that others read (names and references) must not contain control characters, invisible characters or"
            " characters that change the direction of the text: 400 `validation_failed`. Joiners, variation selectors"
            " and tags are accepted where they build an emoji."
        ),
        tags=[
            Tag("Users", "Registration, sessions, passwords and the profile."),
            Tag("Wallets", "The signed-in user's wallets, at most one per currency."),
            Tag("Payments", "Moving money, and its history."),
            Tag("Health", "For load balancers and people on call."),
        ],
        openapi_router=Router(
            PATH, route_handlers=[], include_in_schema=False, response_headers={"Content-Security-Policy": _POLICY}
        ),
        render_plugins=VIEWERS,
        use_handler_docstrings=True,
        security=[{"bearer": []}],
        components=Components(
            security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
        ),
    )


def assets_route() -> HTTPRouteHandler:
    """`GET /docs/assets/{name}`: scripts and styles. Those with a version in their name never change."""

    @get(f"{PATH}/assets/{{name:str}}", include_in_schema=False)
    async def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        """One file, compressed for whoever takes it so."""
        if name not in _names():
            raise NotFoundException("There is no such file.")
        packed = _packed(name)
        headers = {
            "Cache-Control": f"public, max-age={31_536_000 if any(map(str.isdigit, name)) else 300}",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
        }
        kind = _TYPES[Path(name).suffix]
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
        return Response(gzip.decompress(packed), media_type=kind, headers=headers)

    return asset


def _asset(name: str) -> str:
    return f"{PATH}/assets/{name}"


@cache
def _names() -> frozenset[str]:
    files = (file.name.removesuffix(".gz") for file in _FOLDER.iterdir())
    return frozenset(name for name in files if Path(name).suffix in _TYPES)


@cache
def _packed(name: str) -> bytes:
    kept = _FOLDER / f"{name}.gz"
    return kept.read_bytes() if kept.exists() else gzip.compress((_FOLDER / name).read_bytes(), mtime=0)
