"""Tokens over HTTP: had, renewed, shown, refused."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import jwt

from db.tables import RefreshToken
from tests.helpers.users import PASSWORD, Json


async def sign_in(client: httpx.AsyncClient, phone_number: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/users/token/create/", json={"phone_number": phone_number, "password": password})


async def refresh(client: httpx.AsyncClient, token: str, **more: Any) -> httpx.Response:
    return await client.post("/users/token/refresh/", json={"refresh": token, **more})


async def profile(client: httpx.AsyncClient, authorization: str | bytes) -> httpx.Response:
    value = authorization if isinstance(authorization, bytes) else authorization.encode()
    return await client.get("/users/", headers=[(b"Authorization", value)])


def bearer_refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    return answer.status_code, answer.json()["code"]


async def make_older(token: str, seconds: float) -> None:
    """Let a token have been spent some seconds earlier than it was."""
    token_id = jwt.decode(token, options={"verify_signature": False})["jti"]
    spent_at = datetime.now(UTC) - timedelta(seconds=seconds)
    await RefreshToken.update({RefreshToken.spent_at: spent_at}).where(RefreshToken.id == UUID(token_id))


async def let_pass(seconds: float) -> None:
    """Let every token that is spent have been spent some seconds earlier than it was."""
    await RefreshToken.raw("UPDATE refresh_token SET spent_at = spent_at - make_interval(secs => {})", seconds)


async def alive(client: httpx.AsyncClient, tokens: Json) -> bool:
    """Whether its access token is let in; a refusal must be the one for revoked tokens."""
    answer = await profile(client, f"Bearer {tokens['access']}")
    assert answer.status_code == 200 or bearer_refusal(answer) == (401, "token_invalid")
    return answer.status_code == 200
