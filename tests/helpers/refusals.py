"""Refusals as clients get them."""

from typing import Any

import httpx


def refusal(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal, which has everything that RFC 9457 and the contract want of it."""
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json"), (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:500]}"
    )
    problem: dict[str, Any] = response.json()
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "instance", "code"}
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["type"].endswith(code)
    assert problem["instance"].rstrip("/") == response.request.url.path.rstrip("/")
    assert problem["title"]
    assert problem["detail"]
    for error in problem.get("errors", []):
        assert error.keys() == {"field", "message"} | ({"code"} if code == "bulk_refused" else set())
        assert error["message"]
    assert response.headers["X-Request-ID"]
    # RFC 9110: 10.2.3, 15.5.6 and 11.6.1.
    assert ("Retry-After" in response.headers) == (status in (429, 503))
    assert ("Allow" in response.headers) == (status == 405)
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    if status in (429, 503):
        assert int(response.headers["Retry-After"]) >= 1
    assert ("RateLimit" in response.headers) == (status == 429)
    assert ("RateLimit-Policy" in response.headers) == (status == 429)
    return problem
