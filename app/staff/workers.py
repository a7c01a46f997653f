"""The worker dashboard at `/workers/`: staff see the queue, its cron jobs, what runs and what failed."""

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send
from saq.queue.redis import RedisQueue

from actors.refusals import DatabaseUnavailable
from app.staff.mount import answer, at_first_visit, fault_of_query, path_as_sent, replayed, whole_body, with_headers
from db.engine import UNAVAILABLE

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PATH = "/workers"


def workers_route(queue: RedisQueue, *, production: bool, public_url: str) -> ASGIRouteHandler:
    """The dashboard as a mount of the application, built at the first visit."""

    def build() -> "ASGIApp":
        from app.staff.workers_app import build

        return build(queue, path=PATH, public_url=public_url)

    app = at_first_visit(build)

    @asgi(PATH, is_mount=True, copy_scope=True)
    async def workers(scope: Scope, receive: Receive, send: Send) -> None:
        path = path_as_sent(scope)
        decorated = with_headers(send, production=production, keep=path.startswith(f"{PATH}/static/"))
        if path == PATH:
            await answer(decorated, 307, b"", (b"location", f"{PATH}/".encode()))
            return
        if fault := fault_of_query(scope):
            await answer(decorated, 400, fault.encode())
            return
        body = await whole_body(receive)
        if body is None:
            await answer(decorated, 413, b"The request is too large.", (b"connection", b"close"))
            return
        inner: Any = {**scope, "app": None, "path": path, "root_path": PATH, "state": {}}
        try:
            await (await app())(inner, replayed(body, receive), decorated)
        except UNAVAILABLE:
            sentence, again = str(DatabaseUnavailable()), (b"retry-after", b"1")
            if path.startswith(f"{PATH}/api/"):
                # `error` is what the page shows of an answer that is none.
                said = msgspec.json.encode({"error": sentence, "code": DatabaseUnavailable.code})
                await answer(decorated, 503, said, again, content_type=b"application/json")
            else:
                await answer(decorated, 503, sentence.encode(), again)

    return workers
