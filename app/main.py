"""`create_app`: every object is made here, and handed to those who need it. Routes, plugins, lifespan, nothing else."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from redis.asyncio import Redis

from actors.bank import Bank
from actors.engine.locks import Locks
from app.auth.revocations import Revocations
from app.auth.tokens import Tokens
from app.controllers.bulk import BulkController
from app.controllers.health import HealthController
from app.controllers.mailbox import MailboxController
from app.controllers.payments import PaymentsController
from app.controllers.resets import ResetsController
from app.controllers.sessions import SessionsController
from app.controllers.users import UsersController
from app.controllers.wallets import WalletsController
from app.docs.pages import OPENAPI, assets_route
from app.http.bodies import AmountSchema, JSONBodies
from app.http.cors import across_origins
from app.http.problems import EXCEPTION_HANDLERS
from app.limits.bodies import ORDINARY_BYTES, LargeBodies
from app.limits.payments import PaymentLimits
from app.limits.requests import RateLimiter
from app.logs.requests import RequestLog, log_config
from app.people.codes import Codes
from app.people.images import Images, media_route
from app.people.passwords import Passwords
from app.people.people import People
from app.settings import Settings
from app.staff.admin import admin_route
from app.staff.integrity import integrity_route
from app.staff.workers import workers_route
from app.telemetry.metrics import World, metrics_route
from app.telemetry.observed import Observed
from app.telemetry.readiness import Lookout
from app.telemetry.tracing import tracing
from db.engine import connection_pool
from tasks.messages.outbox import Messages
from tasks.queue import open_queue
from tasks.rates.board import RateBoard

REDIS_SECONDS = 2.0  # one that takes longer to answer counts as gone


def create_app(settings: Settings) -> Litestar:
    """The API as an ASGI application; its lifespan opens and closes what it needs."""
    redis: Redis = Redis.from_url(
        settings.redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
    )
    queue = open_queue(settings.redis_url)
    board = RateBoard(redis, settings.rates, settings.development)
    locks = Locks(settings.redis_url, settings.locks)
    bank = Bank(settings.bank, locks, board.current)
    lookout = Lookout(redis, board)
    traces = tracing(settings.otlp_endpoint)
    if traces:
        bank.on_road = traces.on_road
    tokens = Tokens(settings.secret, settings.tokens)
    revocations = Revocations(tokens)
    media_folder = Path(settings.media_folder)
    images = Images(media_folder, public_url=settings.public_url)
    passwords = Passwords()
    limiter = RateLimiter(redis, settings.limits, per_address=not settings.development)
    payment_limits = PaymentLimits(redis, settings.limits.payments_per_user)
    people = People(
        tokens=tokens,
        passwords=passwords,
        codes=Codes(redis, settings.secret),
        limiter=limiter,
        images=images,
        messages=Messages(settings.secret, sms=bool(settings.sms.url)),
        queue=queue,
        phone_region=settings.phone_region,
        development=settings.development,
    )

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(redis.aclose)
            stack.push_async_callback(queue.disconnect)
            if traces:
                stack.push_async_callback(asyncio.to_thread, traces.close)
            stack.callback(passwords.close)
            stack.callback(images.close)
            await stack.enter_async_context(connection_pool(settings.pool))
            await stack.enter_async_context(revocations.running())
            await stack.enter_async_context(board.running())
            await stack.enter_async_context(locks.running())
            await stack.enter_async_context(bank.running())
            await stack.enter_async_context(lookout.running())
            await stack.enter_async_context(payment_limits.running())
            yield

    objects = {
        "bank": bank,
        "payment_limits": payment_limits,
        "people": people,
        "redis": redis,
        "lookout": lookout,
    }
    routes: list[Any] = [
        *(UsersController, SessionsController, ResetsController),
        *(WalletsController, PaymentsController, BulkController, HealthController),
    ]
    app = Litestar(
        route_handlers=[
            *routes,
            Router("/api/v1", route_handlers=routes, include_in_schema=False),
            media_route(media_folder),
            assets_route(),
            metrics_route(World(redis, lookout), settings.metrics.token),
            admin_route(
                bank,
                limiter,
                production=not settings.development,
                public_url=settings.public_url,
                phone_region=settings.phone_region,
            ),
            integrity_route(),
            workers_route(queue, production=not settings.development, public_url=settings.public_url),
            *([MailboxController] if settings.development else []),
        ],
        lifespan=[lifespan],
        dependencies={name: Provide(_constant(thing), sync_to_thread=False) for name, thing in objects.items()},
        dto=JSONBodies,
        middleware=[traces.middleware] if traces else [],
        plugins=[AmountSchema()],
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=ORDINARY_BYTES,
        debug=False,  # Litestar asks the environment where these are not given
        pdb_on_exception=False,
        openapi_config=OPENAPI,
        logging_config=log_config(settings.log, production=not settings.development),
    )
    production = not settings.development
    inner = across_origins(app.asgi_handler, settings.http.origins)
    app.asgi_handler = Observed(inner, RequestLog(settings.log, production=production), production=production)
    app.state.tokens = tokens
    app.state.revocations = revocations
    app.state.lookout = lookout
    app.state.large_bodies = LargeBodies()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return app


def _constant(thing: Any) -> Any:
    """A dependency that is always this object."""

    def provide() -> Any:
        return thing

    provide.__annotations__["return"] = type(thing)
    return provide
