"""
A visit to a running wallet in which everything happens once: people come, move money, make mistakes; staff look around;
strangers try things. It notes what was asked and answered, and every secret that was about.
"""

import asyncio
import base64
import json
import re
import socket
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
from msgspec import Struct
from PIL import Image

from tests.helpers.third_parties import MailServer, WebServer
from tests.helpers.waiting import GIVE_UP_SECONDS

# Emails that `test_logs` has the database stumble over, and an amount.
TROUBLE_EMAIL = "trouble@wallet-test.kz"
TROUBLE_AMOUNT = "13.13"

GONE = "gone-before-the-end"
STAFF_PASSWORD = "Kettle-otter-9041-umbra"


class Asked(Struct, frozen=True, kw_only=True):
    """A request that was answered."""

    id: str
    method: str
    status: int


@dataclass
class Visit:
    """Who comes by, over `client`; none of the `secrets` may be found in a log afterwards."""

    client: httpx.AsyncClient
    mail: MailServer
    gateway: WebServer
    asked: list[Asked] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    noted: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, *, note: str = "", **options: Any) -> httpx.Response:
        answer = await self.client.request(method, path, **options)
        id = answer.headers["X-Request-ID"]
        self.asked.append(Asked(id=id, method=method, status=answer.status_code))
        if note:
            self.noted[note] = id
        # What was asked for comes back as `instance`, and what was written into a form of the staff's, to who wrote it.
        if answer.status_code >= 400 and "/api/forms/" not in path:
            self.refusals.append(re.sub(r'"instance":"[^"]*"', "", answer.text))
        return answer

    async def post(self, path: str, body: Any = None, *, note: str = "", **options: Any) -> httpx.Response:
        return await self.ask("POST", path, json=body, note=note, **options)

    async def code_for(self, email: str, *, after: int) -> str:
        """The code that was mailed to somebody, after so many mails."""
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up_at:
            for to, message in self.mail.accepted[after:]:
                if to == email and (found := re.search(r"\b\d{6}\b", message.get_content())):
                    self.secrets.add(found[0])
                    return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError(f"no code came for {email}")

    async def phone_code_for(self, phone: str, *, after: int) -> str:
        """The code that was sent to a phone, after so many SMS."""
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up_at:
            for sent in self.gateway.requests[after:]:
                sms = json.loads(sent.partition(b"\r\n\r\n")[2])
                if sms["to"] == phone and (found := re.search(r"\b\d{6}\b", sms["text"])):
                    self.secrets.add(found[0])
                    return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError(f"no code came for {phone}")

    async def join(self, email: str, phone: str, password: str) -> dict[str, str]:
        """Register, confirm and sign in, not without mistakes. The headers of who is signed in."""
        mails, texts = len(self.mail.accepted), len(self.gateway.requests)
        self.secrets |= {password, f"{password}-mistyped"}
        person = {"email": email, "phone_number": phone, "password": password}
        session = (await self.post("/users/create/", person, note=f"registration of {email}")).json()["session_id"]
        code = await self.code_for(email, after=mails)
        right = {"session_id": session, "code": code, "phone_code": await self.phone_code_for(phone, after=texts)}
        for name in ("code", "phone_code"):
            wrong = f"{(int(right[name]) + 1) % 1_000_000:06}"
            self.secrets.add(wrong)
            assert (await self.post("/users/verify/", right | {name: wrong})).status_code == 400
        confirmed = await self.post("/users/verify/", right, note=f"confirmation of {email}")
        if email == TROUBLE_EMAIL:
            assert confirmed.status_code == 500
            return {}
        self.noted[f"user id of {email}"] = confirmed.json()["id"]
        return await self.sign_in(phone, password)

    async def sign_in(self, phone: str, password: str) -> dict[str, str]:
        wrong = {"phone_number": phone, "password": f"{password}-mistyped"}
        assert (await self.post("/users/token/create/", wrong)).status_code == 401
        pair = await self.post("/users/token/create/", {"phone_number": phone, "password": password})
        assert pair.status_code == 201, pair.text
        return self._holding(pair.json())

    def _holding(self, pair: dict[str, Any]) -> dict[str, str]:
        """Note both tokens and each of their parts."""
        for token in (pair["access"], pair["refresh"]):
            self.secrets |= {token, *token.split(".")}
        self.noted["refresh"] = pair["refresh"]
        return {"Authorization": f"Bearer {pair['access']}"}

    async def renew(self) -> None:
        """Exchange the refresh token, and exchange the spent one again."""
        spent = {"refresh": self.noted["refresh"]}
        self._holding((await self.post("/users/token/refresh/", spent)).json())
        await self.post("/users/token/refresh/", spent)
        assert (await self.post("/users/token/refresh/", {"refresh": "x" + spent["refresh"]})).status_code == 401

    async def change_password(self, me: dict[str, str], email: str, old: str, new: str) -> None:
        before = len(self.mail.accepted)
        self.secrets.add(new)
        wrong = {"password": f"{old}-mistyped", "new_password": new}
        assert (await self.post("/users/password/update/", wrong, headers=me)).status_code == 400
        started = await self.post("/users/password/update/", {"password": old, "new_password": new}, headers=me)
        code = await self.code_for(email, after=before)
        body = {"session_id": started.json()["session_id"], "code": code}
        assert (await self.ask("PATCH", "/users/password/verify/", json=body, headers=me)).status_code == 200

    async def move_money(self, me: dict[str, str], other: dict[str, str]) -> None:
        """Deposits, transfers and refusals, some of them twice under one key; one that the database stumbles over."""
        mine = (await self.post("/users/wallets/create/", {"amount_currency": "KZT"}, headers=me)).json()
        theirs = (await self.post("/api/v1/users/wallets/create/", {"amount_currency": "USD"}, headers=other)).json()
        path = f"/users/wallets/{mine['id']}"
        keyed = me | {"Idempotency-Key": "first-deposit"}
        for _ in range(2):
            note = "deposit of ann"
            assert (await self.post(f"{path}/deposit/", {"amount": "500.00"}, headers=keyed, note=note)).is_success
        assert (await self.post(f"{path}/deposit/", {"amount": "501.00"}, headers=keyed)).status_code == 422
        send = {"wallet_number": theirs["wallet_number"], "amount": "100.00"}
        assert (await self.post(f"{path}/transfer/", send, headers=me)).status_code == 201
        assert (await self.post(f"{path}/withdraw/", {"amount": "9999.00"}, headers=me)).status_code == 400
        assert (await self.post(f"{path}/withdraw/", {"amount": "1.00"}, headers=other)).status_code == 404
        trouble = {"amount": TROUBLE_AMOUNT}
        assert (await self.post(f"{path}/deposit/", trouble, headers=me, note="trouble")).status_code == 500
        for each in ("/users/", "/users/wallets/", f"{path}/transactions/?limit=1"):
            assert (await self.ask("GET", each, headers=me)).status_code == 200

    async def show_face(self, me: dict[str, str]) -> None:
        picture = BytesIO()
        Image.new("RGB", (40, 20), "teal").save(picture, "PNG")
        files = {"profile_image": ("me.png", picture.getvalue(), "image/png")}
        answer = await self.ask("PATCH", "/users/update/", data={"first_name": "Ann"}, files=files, headers=me)
        assert answer.status_code == 200, answer.text
        assert (await self.ask("GET", urlsplit(answer.json()["profile_image"]).path)).status_code == 200

    async def misplace(self, me: dict[str, str], password: str) -> None:
        """Secrets where they don't belong, and requests that are none."""
        token = me["Authorization"].removeprefix("Bearer ")
        basic = base64.b64encode(f"ann:{password}".encode()).decode()
        self.secrets.add(basic)
        for header in (f"Basic {basic}", f"Token {token}", f"Bearer {token[:-9]}", token, f"Bearer {token} {token}"):
            assert (await self.ask("GET", "/users/", headers={"Authorization": header})).status_code == 401
        query = {"access_token": token, "password": password, "limit": token}
        assert (await self.ask("GET", "/users/wallets/1/transactions/", params=query, headers=me)).status_code == 400
        for path in (f"/users/wallets/{token}/", f"/{token}", f"/media/{token}", f"/docs/assets/{token}"):
            assert (await self.ask("GET", path, params={"password": password}, headers=me)).status_code == 404
        assert (await self.ask("DELETE", "/users/", headers=me)).status_code == 405
        for content in (
            f'{{"phone_number": "{password}", "password": ',
            f'["{token}"]',
            f'{{"refresh": {{"{token}": 1}}}}',
        ):
            for path in ("/users/token/create/", "/users/token/refresh/", "/users/create/"):
                answer = await self.ask("POST", path, content=content, headers={"Content-Type": "application/json"})
                assert answer.status_code == 400
        headers = {"Content-Type": "text/plain", "X-Request-ID": f"not usable: {token}", "Cookie": f"session={token}"}
        assert (await self.ask("POST", "/users/create/", content=password, headers=headers)).status_code == 415
        assert (await self.post("/users/create/", {"email": "x" * 70_000, "password": password})).status_code == 413
        keyed = me | {"Idempotency-Key": f"{token} {token}"}
        await self.post("/users/wallets/1/deposit/", {"amount": "1.00"}, headers=keyed)

    async def look_around_as_staff(self, username: str) -> None:
        """Sign in to the admin, which is strict about where a request comes from, and ask it something silly."""
        page = await self.ask("GET", "/admin/")
        csrf = page.cookies["csrftoken"]
        url = str(self.client.base_url).rstrip("/")
        headers = {"X-CSRFToken": csrf, "Origin": url, "Referer": f"{url}/admin/", "Cookie": f"csrftoken={csrf}"}
        self.secrets |= {STAFF_PASSWORD, f"{STAFF_PASSWORD}-mistyped", csrf}
        login = {"username": username, "password": f"{STAFF_PASSWORD}-mistyped"}
        assert (await self.post("/admin/public/login/", login, headers=headers)).status_code == 401
        login["password"] = STAFF_PASSWORD
        signed_in = await self.post("/admin/public/login/", login, headers=headers)
        assert signed_in.status_code == 200, signed_in.text
        session = signed_in.cookies["id"]
        self.secrets.add(session)
        headers["Cookie"] += f"; id={session}"
        assert (await self.ask("GET", "/admin/api/tables/message/", headers=headers)).status_code == 200
        silly = f"/admin/api/tables/user/?__order={session}&password={STAFF_PASSWORD}"
        assert (await self.ask("GET", silly, headers=headers)).status_code == 400
        reverse = {"transaction_id": session, "reason": STAFF_PASSWORD}
        assert (await self.post("/admin/api/forms/reverse-a-transaction/", reverse, headers=headers)).status_code == 422

    async def hang_up(self, password: str) -> None:
        """Leave in the middle of a body; and say something that is no HTTP."""
        where = urlsplit(str(self.client.base_url))
        body = json.dumps({"password": password})
        head = f"POST /users/create/ HTTP/1.1\r\nHost: x\r\nX-Request-ID: {GONE}\r\nContent-Type: application/json\r\n"
        for said in (f"{head}Content-Length: 500\r\n\r\n{body}", f"{password}\r\n\r\n"):
            with socket.create_connection((where.hostname, where.port or 80)) as connection:
                connection.sendall(said.encode())
                await asyncio.sleep(0.3)
        self.asked.append(Asked(id=GONE, method="POST", status=499))
