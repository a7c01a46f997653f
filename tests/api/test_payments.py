"""Deposits, withdrawals, transfers and history, as the reference document has them."""

import httpx

from tests.persons import register


async def test_a_transfer_within_a_currency(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="1000.00"), await bob.open_wallet()
    response = await mine.send("250.5", his)
    assert response.status_code == 201
    transaction = response.json()
    assert transaction == {
        "id": transaction["id"],
        "operation_type": "TRANSFER",
        "amount": "250.50",
        "amount_currency": "KZT",
        "received_amount": "250.50",
        "received_currency": "KZT",
        "exchange_rate": None,
        "sender": {"wallet_number": mine.number},
        "receiver": {"wallet_number": his.number},
        "balance_after": "749.50",
        "created_at": transaction["created_at"],
    }
    assert await his.history() == [{**transaction, "balance_after": "250.50"}]
    assert [row["operation_type"] for row in await mine.history()] == ["TRANSFER", "DEPOSIT"]
