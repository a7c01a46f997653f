"""`create_app`: every object is made here, and handed to those who need it. Routes, plugins, lifespan, nothing else."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from actors.engine.redis_client import open_redis
from app.auth.revocations import Revocations
from app.auth.sessions import Sessions
from app.auth.tokens import Tokens, caller
from app.dev_mailbox import mailbox_route
from app.docs.pages import assets_route, openapi
from app.http.bodies import AmountSchema, JSONBodies
from app.http.cors import across_origins
from app.http.problems import EXCEPTION_HANDLERS
from app.limits.bodies import ORDINARY_BYTES, LargeBodies
from app.limits.payments import PaymentLimits
from app.limits.requests import RateLimiter
from app.limits.threads import Threads
from app.limits.visitor import visitor
from app.logs.requests import RequestLog, log_config
from app.payments.bulk import BulkController
from app.payments.history import HistoryController
from app.payments.probing import ProbingLimit
from app.payments.routes import PaymentsController
from app.people.codes import Codes
from app.people.images.keeping import Images
from app.people.images.serving import media_route
from app.people.passwords.change import PasswordChange, PasswordChangeController
from app.people.passwords.hashing import Passwords
from app.people.passwords.reset import PasswordReset, PasswordResetController
from app.people.phone_types import types_from
from app.people.profiles import ProfileController, Profiles
from app.people.registration import RegistrationController, Registrations
from app.people.sessions import SessionsController
from app.people.sign_in import SignIn, SignInController
from app.settings import Settings
from app.staff.admin import admin_route
from app.staff.integrity import integrity_route
from app.staff.workers import workers_route
from app.telemetry.health import HealthChecks, HealthController
from app.telemetry.metrics import World, metrics_route
from app.telemetry.middleware import RequestTelemetry
from app.telemetry.tracing import tracing
from app.wallets.routes import WalletsController
from db.engine import connection_pool
from tasks.banking import Banking
from tasks.messages.outbox import Outbox
from tasks.queue import open_queue

REDIS_SECONDS = 2.0  # one that takes longer to answer counts as gone


def create_app(settings: Settings) -> Litestar:
    """The API as an ASGI application; its lifespan opens and closes what it needs."""
    production = not settings.development
    redis = open_redis(settings.redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    # For those who count, each of whom asks one question at a time, with a time limit of their own around it.
    counting = open_redis(
        settings.redis_url,
        socket_timeout=None,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 1),  # a connection may have been closed while nobody used it
    )
    queue = open_queue(settings.redis_url)
    traces = tracing(settings.otlp_endpoint)
    banking = Banking(settings, redis, on_road=traces.on_road if traces else None)
    tokens = Tokens(settings.secret, settings.tokens, others=settings.other_secrets)
    revocations = Revocations(tokens)
    media_folder = Path(settings.media_folder)
    images = Images(media_folder, public_url=settings.public_url)
    health_checks = HealthChecks(redis, banking.bank.locks, banking.board, images.trouble)
    profiles = Profiles(images)
    passwords = Passwords()
    codes = Codes(redis, settings.secret, others=settings.other_secrets)
    staff_threads = Threads("staff password", count=1, waiting_max=8)
    limiter = RateLimiter(counting, settings.limits, per_address=production)
    payment_limits = PaymentLimits(counting, settings.limits.payments_per_user)
    outbox = Outbox(queue, settings.secret, sms=bool(settings.sms.url))

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(redis.aclose)
            stack.push_async_callback(counting.aclose)
            stack.push_async_callback(limiter.close)
            stack.push_async_callback(queue.disconnect)
            if traces:
                stack.push_async_callback(asyncio.to_thread, traces.close)
            stack.callback(passwords.close)
            stack.callback(staff_threads.close)
            stack.callback(images.close)
            await images.open()
            await stack.enter_async_context(connection_pool(settings.pool, reserved=settings.bank.connections + 1))
            await stack.enter_async_context(revocations.running())
            await stack.enter_async_context(banking.running())
            await stack.enter_async_context(health_checks.running())
            await stack.enter_async_context(payment_limits.running())
            yield

    objects = {
        "bank": banking.bank,
        "payment_limits": payment_limits,
        "probing_limit": ProbingLimit(banking.bank, counting, settings.limits.unpaid_numbers_per_user),
        "images": images,
        "profiles": profiles,
        "sessions": Sessions(tokens),
        **_with_passwords(
            settings, tokens=tokens, passwords=passwords, codes=codes, limiter=limiter, profiles=profiles, outbox=outbox
        ),
        "redis": redis,
        "health_checks": health_checks,
    }
    # In the order in which a person meets them, which is that of the documentation.
    routes: list[Any] = [
        *(RegistrationController, SignInController, ProfileController, SessionsController),
        *(PasswordChangeController, PasswordResetController),
        *(WalletsController, PaymentsController, BulkController, HistoryController, HealthController),
    ]
    app = Litestar(
        route_handlers=[
            *routes,
            Router("/api/v1", route_handlers=routes, include_in_schema=False),
            media_route(media_folder),
            assets_route(),
            metrics_route(World(redis, health_checks), settings.metrics.token),
            admin_route(
                banking.bank,
                limiter,
                staff_threads,
                production=production,
                public_url=settings.public_url,
                phone_region=settings.phone_region,
            ),
            integrity_route(),
            workers_route(queue, production=production, public_url=settings.public_url),
            *([mailbox_route(settings.public_url)] if settings.development else []),
        ],
        lifespan=[lifespan],
        dependencies={
            "caller": Provide(caller),
            "visitor": Provide(visitor),
            **{name: Provide(_constant(thing), sync_to_thread=False) for name, thing in objects.items()},
        },
        dto=JSONBodies,
        middleware=[traces.middleware] if traces else [],
        plugins=[AmountSchema()],
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=ORDINARY_BYTES,
        debug=False,  # Litestar asks the environment where these are not given
        pdb_on_exception=False,
        openapi_config=openapi(),
        logging_config=log_config(settings.log, production=production),
    )
    inner = across_origins(app.asgi_handler, settings.http.origins)
    app.asgi_handler = RequestTelemetry(inner, RequestLog(settings.log, production=production), production=production)
    app.state.tokens = tokens
    app.state.revocations = revocations
    app.state.health_checks = health_checks
    app.state.large_bodies = LargeBodies(per_address=production)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return app


def _with_passwords(
    settings: Settings,
    *,
    tokens: Tokens,
    passwords: Passwords,
    codes: Codes,
    limiter: RateLimiter,
    profiles: Profiles,
    outbox: Outbox,
) -> dict[str, Any]:
    """What people do with passwords and codes, each use case an object of its own."""
    region = settings.phone_region
    return {
        "registrations": Registrations(
            passwords=passwords,
            codes=codes,
            limiter=limiter,
            outbox=outbox,
            phone_region=region,
            phone_types=types_from(settings.phone_types),
            development=settings.development,
        ),
        "sign_in": SignIn(tokens=tokens, passwords=passwords, limiter=limiter, phone_region=region),
        "password_change": PasswordChange(
            tokens=tokens,
            passwords=passwords,
            codes=codes,
            limiter=limiter,
            profiles=profiles,
            outbox=outbox,
            phone_region=region,
        ),
        "password_reset": PasswordReset(
            tokens=tokens,
            passwords=passwords,
            codes=codes,
            limiter=limiter,
            profiles=profiles,
            outbox=outbox,
            phone_region=region,
            development=settings.development,
        ),
    }


def _constant(thing: Any) -> Any:
    """A dependency that is always this object."""

    def provide() -> Any:
        return thing

    provide.__annotations__["return"] = type(thing)
    return provide
