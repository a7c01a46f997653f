"""What must hold when all is quiet: the clients' records against the ledger, the ledger itself, nothing left over."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal

from actors.engine.locks import _CHANNEL
from actors.orders import Bulk, ChargeFee, Order, Receipt, Reverse, Transfer
from actors.refusals import Refusal
from db.currencies import SYSTEM_WALLET_IDS
from db.rows import TransactionRow
from tests.simulation.town import Town
from tests.simulation.wishes import Attempt, Wish
from tests.simulation.world import BEGINNING

_CURRENCY_OF_SYSTEM = {id: currency for (_, currency), id in SYSTEM_WALLET_IDS.items()}


def verdict(town: Town) -> Iterator[str]:
    """Everything that is wrong."""
    attempts = [attempt for wish in town.granted for attempt in wish.attempts]
    yield from _ledger(town)
    yield from _dates(town)
    for attempt in attempts:
        yield from _answers(attempt, town)
    for wish in town.granted:
        yield from _once(wish, town)
    yield from _explained(attempts, town)
    yield from _order(attempts, town)
    if town.plan.calm:
        yield from _fairness(attempts, town)
    yield from _rest(town)


def _ledger(town: Town) -> Iterator[str]:
    """Every balance is its entries', never below zero; what a transaction moves sums to zero."""
    tables = town.database.tables
    for id in tables.doubled:
        yield f"transaction {id} was saved twice"
    balances = dict(tables.opening)
    for entry in tables.entries:
        if entry.wallet_id in balances:
            balances[entry.wallet_id] += entry.amount
            if balances[entry.wallet_id] != entry.balance_after or balances[entry.wallet_id] < 0:
                yield f"{entry} does not follow from the entries before it: {balances[entry.wallet_id]}"
    for wallet_id, wallet in tables.wallets.items():
        if wallet.amount != balances[wallet_id]:
            yield f"wallet {wallet_id} holds {wallet.amount}, its entries make {balances[wallet_id]}"
    for id, entries in tables.of_transaction.items():
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for entry in entries:
            wallet_row = tables.wallets.get(entry.wallet_id)
            sums[wallet_row.currency if wallet_row else _CURRENCY_OF_SYSTEM[entry.wallet_id]] += entry.amount
        if any(sums.values()) or id not in tables.transactions:
            yield f"the entries of {id} make {dict(sums)}"


def _dates(town: Town) -> Iterator[str]:
    """The entries of a wallet are dated in their order, whichever process made them."""
    tables = town.database.tables
    dates = dict.fromkeys(tables.wallets, BEGINNING)
    for entry in tables.entries:
        if (before := dates.get(entry.wallet_id)) is not None:
            dates[entry.wallet_id] = date = tables.transactions[entry.transaction_id].created_at
            if date < before:
                yield f"{entry} is dated {date}, before {before}"


def _answers(attempt: Attempt, town: Town) -> Iterator[str]:
    """What was told is true."""
    there = town.database.tables.transactions
    outcome = attempt.outcome
    if isinstance(outcome, list):
        for order, each in zip(attempt.orders, outcome, strict=True):
            if isinstance(each, Receipt):
                yield from _receipt(order, each, attempt, town)
            elif order.id in there:
                yield f"refused, and carried out: {order}"
    elif not attempt.may_have_happened and not isinstance(attempt.asked, ChargeFee):
        for order in attempt.orders:
            if order.id in there:
                yield f"refused with {outcome!r}, and carried out: {order}"
        if not isinstance(outcome, Refusal) and type(outcome).__name__ != "NumericValueOutOfRangeError":
            yield f"{outcome!r} is no answer to {attempt.asked}"


def _receipt(order: Order, receipt: Receipt, attempt: Attempt, town: Town) -> Iterator[str]:
    tables, told = town.database.tables, receipt.transaction
    if told is None:
        return
    if told != tables.transactions.get(told.id):
        yield f"told of {told}, there is {tables.transactions.get(told.id)}"
        return
    ids = {each.id for earlier in attempt.wish.attempts for each in earlier.orders}
    # A bulk that comes again makes what had been refused under the ids of the first request.
    again = receipt.replayed or isinstance(attempt.asked, Bulk)
    if (told.id not in ids) if again else told.id != order.id:
        yield f"{order} was answered with {told}"
    yield from _figures(order, told)
    acting = (told.sender_id or told.receiver_id) if isinstance(order, Reverse) else order.wallet_id
    if acting and receipt.balance_after != tables.balance(told.id, acting):
        yield f"told of a balance of {receipt.balance_after} after {told}, not {tables.balance(told.id, acting)}"


def _figures(order: Order, told: TransactionRow) -> Iterator[str]:
    match order:
        case Reverse():
            is_so = told.reverses == order.transaction_id
        case ChargeFee():
            is_so = told.operation_type == "FEE"
        case Transfer():
            is_so = told.amount == order.amount and told.sender_id == order.wallet_id
        case _:
            is_so = told.amount == abs(getattr(order, "amount", Decimal(0)))
    if not is_so:
        yield f"{order} came to {told}"


def _once(wish: Wish, town: Town) -> Iterator[str]:
    """A key stands for one request, and so does a wish without one that was told that nothing has happened."""
    if isinstance(wish.asked, ChargeFee):
        return
    there = town.database.tables.transactions
    for place in range(len(wish.attempts[0].orders)):
        happened = [each for each in wish.attempts if each.orders[place].id in there]
        if len(happened) > 1:
            yield f"carried out {len(happened)} times: {[each.asked for each in happened]}"
    last = wish.attempts[-1]
    if isinstance(last.asked, Bulk) and last.asked.atomic:
        made = sum(order.id in there for attempt in wish.attempts for order in attempt.orders)
        if made not in (0, len(last.orders)):
            yield f"{made} of {len(last.orders)} transfers of {last.asked}"


def _explained(attempts: list[Attempt], town: Town) -> Iterator[str]:
    """Nothing is there that nobody asked for, and each transaction is reversed once."""
    asked = {order.id for attempt in attempts for order in attempt.orders}
    for id, row in town.database.tables.transactions.items():
        if id not in asked and row.operation_type != "FEE":
            yield f"nobody asked for {row}"
    reversals = Counter(row.reverses for row in town.database.tables.transactions.values() if row.reverses)
    for reversed, times in reversals.items():
        if times > 1:
            yield f"{reversed} was reversed {times} times"


def _order(attempts: list[Attempt], town: Town) -> Iterator[str]:
    """
    What a wallet's owner puts before one bank happens in that order.

    Except after a COMMIT whose answer was lost: what had been refused in it is judged anew, after what came later.
    """
    place = {id: number for number, id in enumerate(town.database.tables.transactions)}
    last: dict[tuple[str, int], tuple[int, Attempt]] = {}
    for attempt in sorted(attempts, key=lambda each: each.number):
        if isinstance(attempt.asked, ChargeFee | Reverse):
            continue
        if isinstance(attempt.asked, Bulk) and len(attempt.wish.attempts) > 1:
            continue  # a later request may have made it, under these ids
        for order in attempt.orders:
            if (at := place.get(order.id)) is None:
                continue
            before = last.get(line := (attempt.branch.name, attempt.asked.wallet_id))
            if before and before[0] > at and not _judged_anew(before[1]):
                yield f"{attempt.asked} was put after {before[1].asked}, and carried out before it"
            last[line] = at, attempt


def _judged_anew(attempt: Attempt) -> bool:
    return any(at >= attempt.asked_at for at in attempt.branch.engine.doubts)


def _fairness(attempts: list[Attempt], town: Town) -> Iterator[str]:
    """Nobody who waits for a wallet looks on while other processes have it again and again."""
    most = 4 * town.plan.processes + 4
    for attempt in attempts:
        wallet_id = getattr(attempt.asked, "wallet_id", None)
        at = town.commit_of.get(attempt.orders[0].id)
        if wallet_id is None or at is None:
            continue
        others = 0
        for process, wallets in town.commits[attempt.commits : at]:
            if wallet_id in wallets:
                others = 0 if process is attempt.branch.process else others + 1
            if others > most:
                yield f"{others} turns of others passed while {attempt.branch.name} waited for wallet {wallet_id}"
                break


def _rest(town: Town) -> Iterator[str]:
    """No process, lock or session is left in the middle of something."""
    for branch in town.branches:
        boxes, locks = branch.bank._mailboxes, branch.locks
        rest = {
            "mail": boxes.waiting or boxes._boxes,
            "ready": boxes._ready,
            "busy": boxes._busy,
            "parked": boxes._parked,
            "elsewhere": branch.bank._elsewhere,
            "beside": branch.bank._beside,
            "retries": locks._retries,
            "asked": locks._asked,
            "woken": locks._woken,
            "releases": locks._releases,
        }
        for name, what in rest.items():
            if what:
                yield f"{branch.name} is quiet and has {name}: {what}"
        if branch.engine.pool.free != branch.engine.pool.size:
            yield f"{branch.name} has lost {branch.engine.pool.size - branch.engine.pool.free} slots of its pool"
        if locks.degraded:
            yield f"{branch.name} is degraded in fine weather"
        listeners = town.lock_server.channels.get(_CHANNEL + locks._owner, [])
        if all(listener.deaf for listener in listeners):
            yield f"{branch.name} would not hear a wake-up"
    if town.database.locks.held:
        yield f"rows are locked: {town.database.locks.held}"
    if keys := town.lock_server.keys():
        yield f"the lock server has {keys}"
