"""The worker dashboard for tests: what its page asks, and what can be asked of it."""

from typing import Any

import httpx
from redis.asyncio import Redis

from tasks.queue import QUEUE_NAME
from tests.helpers.staff import Staff

HERE = {"Origin": "http://wallet.test"}
PAGES = ["", "queues/wallet", "queues/wallet/jobs/cron:charge_fees", "cron", "cron/wallet/deliver", "nothing/here"]
QUESTIONS = ["api/queues", f"api/queues/{QUEUE_NAME}/jobs", "api/cron", "api/redis", "static/app.js", "static/staff.js"]
ORDERS = [
    *[f"api/queues/{QUEUE_NAME}/{action}" for action in ("retry-all", "clean", "abort-all", "promote-all", "pause")],
    *[f"api/queues/{QUEUE_NAME}/jobs/cron:forget_old/{action}" for action in ("retry", "abort", "promote", "remove")],
    *[f"api/cron/{QUEUE_NAME}/deliver/{action}" for action in ("enqueue", "disable", "delete")],
    *[f"api/queues/{QUEUE_NAME}/jobs", "api/cron/enqueue-all", "api/cron/delete-all"],
]


class Dashboard:
    """The page's own requests."""

    def __init__(self, staff: Staff) -> None:
        self.client = staff.client

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.client.get(f"/workers/{path}", params=query)

    async def post(self, path: str, body: Any = None, headers: dict[str, str] = HERE) -> httpx.Response:
        return await self.client.post(f"/workers/{path}", json=body, headers=headers)

    async def jobs(self, status: str) -> list[dict[str, Any]]:
        answer = await self.get(f"api/queues/{QUEUE_NAME}/jobs", status=status)
        assert answer.status_code == 200, answer.text
        jobs: list[dict[str, Any]] = answer.json()["jobs"]
        return jobs

    async def cron(self) -> dict[str, dict[str, Any]]:
        return {cron["name"]: cron for cron in (await self.get("api/cron")).json()["cron"]}


async def everything(redis_url: str) -> dict[bytes, bytes]:
    """All that Redis keeps of the queue."""
    async with Redis.from_url(redis_url) as redis:
        return {key: await redis.dump(key) for key in sorted(await redis.keys("saq:*"))}
