"""The audit finds every kind of damage, names its place, and finds nothing in a ledger that was only used."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from msgspec import Struct

from db import audit as auditing
from db.audit import FINDINGS_MAX, AuditReport, audit
from db.currencies import SYSTEM_WALLET_IDS
from db.engine import Pool, connection_pool
from tests.helpers.banks import banks
from tests.helpers.postgres import connected, row_held
from tests.helpers.purses import purses, reversal

ZERO_SUM = "a transaction's entries sum to zero in each currency"
BELONGS = "every entry belongs to a transaction and a wallet"
TOLD = "a transaction's wallets have the entries that it tells of"
SOMEBODY = "every transaction moves money of somebody"
SUM = "a balance is the sum of its entries"
CHAIN = "each entry's balance follows from the one before, and the last is the wallet's"
LEFT = "the sender's balance that a transaction tells is that of its entry"
KEY = "an idempotency key belongs to a transaction"
MIRROR = "a reversal moves back, once, what its first transaction moved"
STAFF = "what staff moved is in their log, and nothing else is"
SYSTEM = "system wallets keep no balance of their own"


class Used(Struct, frozen=True, kw_only=True):
    """
    A ledger in which a little has happened: Alice got 100.00, sent 30.00 to Bob, and Bob took 10.00 out.

    Then staff gave Alice 5.00 and took them `back` again.
    """

    url: str
    alice: int
    bob: int
    sent: UUID
    back: UUID

    async def damage(self, *statements: str) -> AuditReport:
        """What the audit says after these, with the guards off."""
        async with connected(self.url) as connection:
            await connection.execute("SET session_replication_role = replica")
            for statement in statements:
                done = await connection.execute(
                    statement.format(alice=self.alice, bob=self.bob, sent=self.sent, back=self.back, nobody=UUID(int=0))
                )
                assert not done.endswith(" 0"), f"nothing was damaged by {statement}"
        return await audit()


@pytest.fixture
async def used(database_url: str, redis_url: str) -> AsyncIterator[Used]:
    async with connection_pool(Pool()), banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        sent = await bank.perform(alice.send("30.00", bob, "k"))
        await bank.perform(bob.withdraw("10.00"))
        back = await bank.perform(reversal(await bank.perform(alice.adjust("5.00"))))
        assert sent.transaction
        assert back.transaction
        yield Used(url=database_url, alice=alice.id, bob=bob.id, sent=sent.transaction.id, back=back.transaction.id)


# What is done to the ledger, which rule finds it, and the place that it names.
LAST = '(SELECT max("id") FROM "entry" WHERE "wallet" = {bob})'
DAMAGES = {
    "an amount in history": (
        """UPDATE "entry" SET "amount" = -31 WHERE "transaction" = '{sent}' AND "wallet" = {alice}""",
        {ZERO_SUM: "{sent} KZT -1.00", TOLD: "{sent} wallet {alice}", SUM: "wallet {alice}", CHAIN: "wallet {alice}"},
    ),
    "a leg that is gone": (
        """DELETE FROM "entry" WHERE "transaction" = '{sent}' AND "wallet" = {bob}""",
        {ZERO_SUM: "{sent} KZT -30.00", TOLD: "{sent} wallet {bob}", SUM: "wallet {bob}", CHAIN: "wallet {bob}"},
    ),
    "a movement whose legs are all gone": (
        """DELETE FROM "entry" WHERE "transaction" = '{sent}'""",
        {TOLD: "{sent} wallet {alice}", SUM: "wallet {alice}", CHAIN: "wallet {bob}"},
    ),
    "legs between system wallets where people's belong": (
        """UPDATE "entry" SET "wallet" = 1 WHERE "transaction" = '{sent}'""",
        {TOLD: "{sent} wallet {bob}", SUM: "wallet {alice}", CHAIN: "wallet {bob}"},
    ),
    "a transaction that is gone": (
        """DELETE FROM "transaction" WHERE "id" = '{sent}'""",
        {BELONGS: "entry ", TOLD: "{sent} wallet {bob}", KEY: "key "},
    ),
    "an entry of a wallet that is not there": (
        """UPDATE "entry" SET "wallet" = 999999 WHERE "transaction" = '{sent}' AND "wallet" = {bob}""",
        {ZERO_SUM: "{sent} KZT", BELONGS: "entry ", TOLD: "{sent} wallet {bob}", SUM: "wallet {bob}", CHAIN: "{bob}"},
    ),
    "an amount that a transaction tells wrongly": (
        """UPDATE "transaction" SET "amount" = 31 WHERE "id" = '{sent}'""",
        {TOLD: "{sent} wallet {alice}"},
    ),
    "a received amount that a transaction tells wrongly": (
        """UPDATE "transaction" SET "received_amount" = 29 WHERE "id" = '{sent}'""",
        {TOLD: "{sent} wallet {bob}"},
    ),
    "a currency that a transaction tells wrongly": (
        """UPDATE "transaction" SET "received_currency" = 'EUR' WHERE "id" = '{sent}'""",
        {TOLD: "{sent} wallet {bob}"},
    ),
    "a receiver who was another": (
        """UPDATE "transaction" SET "receiver" = {alice}, "sender" = {bob} WHERE "id" = '{sent}'""",
        {TOLD: "{sent} wallet {alice}"},
    ),
    "a transaction of nobody": (
        """UPDATE "transaction" SET "sender" = NULL, "receiver" = NULL WHERE "id" = '{sent}'""",
        {SOMEBODY: "{sent}", TOLD: "{sent} wallet {alice}"},
    ),
    "a balance": (
        'UPDATE "wallet" SET "amount" = "amount" + 0.01 WHERE "id" = {alice}',
        {SUM: "wallet {alice}: 70.01 is not 70.00", CHAIN: "wallet {alice}"},
    ),
    "a balance without entries": (
        """INSERT INTO "wallet" ("id", "user", "wallet_number", "amount_currency", "amount")
            SELECT 4711, "user", '4711471147', 'EUR', 5 FROM "wallet" WHERE "id" = {alice}""",
        {SUM: "wallet 4711: 5.00 is not 0"},
    ),
    "a balance after an entry": (
        """UPDATE "entry" SET "balance_after" = 71 WHERE "transaction" = '{sent}' AND "wallet" = {alice}""",
        {CHAIN: "wallet {alice} entry"},
    ),
    "a balance after an entry that is not there": (
        'UPDATE "entry" SET "balance_after" = NULL WHERE "id" = ' + LAST,
        {CHAIN: "wallet {bob} entry"},
    ),
    "a sender's balance that a transaction tells wrongly": (
        """UPDATE "transaction" SET "sender_balance" = 70.01 WHERE "id" = '{sent}'""",
        {LEFT: "{sent}"},
    ),
    "a balance of a system wallet": (
        """UPDATE "wallet" SET "amount" = 1 WHERE "id" = 1""",
        {SYSTEM: "wallet 1"},
    ),
    "a key of no transaction": (
        """UPDATE "idempotency_key" SET "transaction" = '{nobody}'""",
        {KEY: "key "},
    ),
    "a reversal of another amount": (
        """UPDATE "transaction" SET "reverses" = '{sent}' WHERE "id" = '{back}'""",
        {MIRROR: "{back}"},
    ),
    "a reversal of nothing": (
        """UPDATE "transaction" SET "reverses" = '{nobody}' WHERE "id" = '{back}'""",
        {MIRROR: "{back}"},
    ),
    "a movement by staff that is not in their log": (
        """DELETE FROM "staff_action" WHERE "id" = '{back}'""",
        {STAFF: "{back}"},
    ),
    "a logged movement that was none": (
        """INSERT INTO "staff_action" ("id", "staff", "staff_name", "action", "transaction", "reason")
            VALUES ('{sent}', 7, 'ayan', 'ADJUST', '{sent}', 'none')""",
        {STAFF: "{sent}"},
    ),
}


def test_every_rule_has_a_damage_that_it_finds() -> None:
    assert {rule for _, found in DAMAGES.values() for rule in found} == set(auditing._RULES)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damage_is_found_and_its_place_named(used: Used, damage: str) -> None:
    statement, expected = DAMAGES[damage]
    report = await used.damage(statement)
    found = {finding.rule: finding for finding in report.findings}
    assert not report.ok
    assert found.keys() == expected.keys()
    for rule, place in expected.items():
        named = place.format(alice=used.alice, bob=used.bob, sent=used.sent, back=used.back)
        assert any(named in example for example in found[rule].examples), found[rule]
        assert found[rule].count == len(found[rule].examples)


async def test_a_movement_that_was_posted_twice_under_one_transaction_is_found(used: Used) -> None:
    """Every sum and every chain holds: only the count of the legs is wrong."""
    report = await used.damage(
        """INSERT INTO "entry" ("transaction", "wallet", "amount", "balance_after")
            SELECT '{sent}', {alice}, -30, 40""",
        """INSERT INTO "entry" ("transaction", "wallet", "amount", "balance_after")
            SELECT '{sent}', {bob}, 30, 150""",
        'UPDATE "wallet" SET "amount" = 40 WHERE "id" = {alice}',
        'UPDATE "wallet" SET "amount" = 150 WHERE "id" = {bob}',
    )
    assert [finding.rule for finding in report.findings] == [TOLD]


async def test_a_ledger_that_was_only_used_is_clean_and_its_rows_are_counted(used: Used) -> None:
    report = await audit()
    assert (report.ok, report.findings) == (True, [])
    assert (report.wallets, report.transactions, report.entries) == (2 + len(SYSTEM_WALLET_IDS), 6, 12)


async def test_a_clock_that_went_back_is_noted_and_is_no_fault_of_the_ledgers(used: Used) -> None:
    """Of Alice's wallet by an hour, of Bob's by no more than clocks may differ."""
    report = await used.damage(
        """UPDATE "transaction" SET "created_at" = "created_at" + interval '50 seconds' WHERE "id" = '{sent}'""",
        """UPDATE "transaction" SET "created_at" = "created_at" - interval '1 hour' WHERE "id" = '{back}'""",
    )
    assert report.ok
    (note,) = report.notes
    assert (note.count, note.examples[0].split(": ")[0]) == (1, f"wallet {used.alice}")


async def test_an_empty_ledger_is_clean(database: str) -> None:
    report = await audit()
    assert (report.ok, report.wallets, report.transactions, report.entries) == (True, len(SYSTEM_WALLET_IDS), 0, 0)


async def test_of_many_damages_the_first_are_named_and_all_are_counted(used: Used) -> None:
    report = await used.damage(
        f"""INSERT INTO "entry" ("transaction", "wallet", "amount")
            SELECT '{{sent}}', 999999, 1 FROM generate_series(1, {FINDINGS_MAX + 5})"""
    )
    (finding,) = report.findings
    assert (finding.rule, finding.count, len(finding.examples)) == (BELONGS, FINDINGS_MAX + 5, FINDINGS_MAX)


async def test_an_audit_waits_for_nobody_and_holds_nobody_up(used: Used, redis_url: str) -> None:
    async with banks(1, redis_url) as (bank,):
        (carol,) = await purses(1, holding="10.00", bank=bank)
        async with row_held(used.url, carol):
            assert (await audit()).ok
