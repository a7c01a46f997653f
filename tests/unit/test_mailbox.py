"""Mail waits in order, loses nothing and starves nobody, whatever happens in whatever order: against a naive model."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.engine.mailbox import Mail, Mailboxes
from actors.orders import Deposit, Receipt
from actors.refusals import Crowded, Overloaded, Refusal

WALLETS = range(1, 6)
DEADLINE_TICKS = 100


class Nobody:
    """Who waits for an answer that this test never gives."""

    def done(self) -> bool:
        return False

    def set_result(self, result: list[Receipt | Refusal], /) -> None:
        raise AssertionError("a mailbox answers nobody")

    def set_exception(self, exception: Exception, /) -> None:
        raise AssertionError("a mailbox answers nobody")


def mail(number: int, *wallet_ids: int, deadline: float = 1e9, orders: int = 1, row_ids: tuple[int, ...] = ()) -> Mail:
    """A mail that can be told from others by the id of its first order."""
    order = Deposit(id=UUID(int=number), caller_id=UUID(int=0), wallet_id=wallet_ids[0], amount=Decimal(1))
    return Mail(orders=(order,) * orders, wallet_ids=wallet_ids, reply=Nobody(), deadline=deadline, row_ids=row_ids)


def count(mails: Iterable[Mail]) -> int:
    """How many orders that is."""
    return sum(len(each.orders) for each in mails)


class Post(RuleBasedStateMachine):
    """Mailboxes beside plain lists that are searched from end to end."""

    @initialize(per_wallet_max=st.sampled_from([1, 4, 50]), total_max=st.sampled_from([1, 10, 100]))
    def open(self, per_wallet_max: int, total_max: int) -> None:
        self.boxes = Mailboxes(per_wallet_max=per_wallet_max, total_max=total_max)
        self.now = 0
        self.number = 0
        self.accepted: list[Mail] = []  # in the order of acceptance
        self.waiting: dict[int, list[Mail]] = {wallet_id: [] for wallet_id in WALLETS}
        self.batches: list[tuple[list[Mail], set[int]]] = []  # under way: the mails, the wallets that are theirs
        self.elsewhere: set[int] = set()  # missed, and not freed yet
        self.over: list[Mail] = []  # settled or expired

    @rule(
        acting=st.sampled_from(WALLETS),
        others=st.lists(st.sampled_from([None, *WALLETS]), min_size=1, max_size=4),
        orders=st.sampled_from([1, 1, 1, 2, 3, 7]),
        by_its_row=st.booleans(),
    )
    def put(self, acting: int, others: list[int | None], orders: int, by_its_row: bool) -> None:
        for other in others:
            self._put(acting, other, orders, by_its_row=by_its_row)

    def _put(self, acting: int, other: int | None, orders: int, *, by_its_row: bool) -> None:
        self.now += 1
        self.number += 1
        wallet_ids = (acting,) if other is None or by_its_row else (acting, other)
        row_ids = (other,) if other is not None and by_its_row else ()
        new = mail(self.number, *wallet_ids, deadline=self.now + DEADLINE_TICKS, orders=orders, row_ids=row_ids)
        before, of_wallet = self._count(), count(self.waiting[acting])
        crowded = before and before + orders > self.boxes.total_max
        if crowded or (of_wallet and of_wallet + orders > self.boxes.per_wallet_max):
            with pytest.raises(Overloaded) as refused:
                self.boxes.put(new)
            assert isinstance(refused.value, Crowded) == bool(crowded)
        else:
            self.boxes.put(new)
            self.accepted.append(new)
            self.waiting[acting].append(new)

    @rule(most=st.sampled_from([1, 2, 5, 100]))
    def take(self, most: int) -> None:
        self._take(most)

    def _take(self, most: int) -> list[Mail]:
        batch = self.boxes.take(most)
        assert count(batch) <= most or len(batch) == 1, "a mail of more makes a batch alone"
        held = self._held()
        mine = {wallet_id for each in batch for wallet_id in each.wallet_ids}
        assert mine.isdisjoint(held), "no wallet is in two batches at once"
        for each in batch:
            assert each is self.waiting[each.wallet_ids[0]].pop(0), "a wallet's own mails never overtake each other"
        free = [box[0] for box in self.waiting.values() if box and held.isdisjoint({*box[0].wallet_ids, *box[0].held})]
        if free and count(batch) < most:
            longest = max(len(first.orders) for first in free)
            assert count(batch) + longest > most, "mail stays only where its wallets are held, or there is no room"
            assert batch, "an empty batch has room for anything"
        if batch:
            self.batches.append((batch, mine))
        return batch

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0), missed=st.sets(st.sampled_from(WALLETS), min_size=1, max_size=2))
    def miss(self, which: int, missed: set[int]) -> None:
        """Another process holds some of a batch's wallets."""
        place = which % len(self.batches)
        batch, mine = self.batches[place]
        missed &= mine
        kept: list[Mail] = []
        back: list[Mail] = []
        for each in batch:
            stalled = any(earlier.wallet_ids[0] == each.wallet_ids[0] for earlier in back)
            (back if stalled or not missed.isdisjoint(each.wallet_ids) else kept).append(each)
        assert self.boxes.give_back(batch, missed) == kept
        for each in reversed(back):
            self.waiting[each.wallet_ids[0]].insert(0, each)
        self.elsewhere |= missed
        self.batches[place] = (kept, mine - missed)

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0), rows=st.sets(st.sampled_from(WALLETS), min_size=1, max_size=2))
    def find_rows_held(self, which: int, rows: set[int]) -> None:
        """Another session of the database holds some of a batch's rows; the others of the batch are settled."""
        batch, mine = self.batches.pop(which % len(self.batches))
        back: list[Mail] = []
        for each in batch:
            each.held = frozenset(rows.intersection((*each.wallet_ids, *each.row_ids)))
            if each.held or any(earlier.wallet_ids[0] == each.wallet_ids[0] for earlier in back):
                back.append(each)
            else:
                self.over.append(each)
        held = {id for each in back for id in each.held}
        free = held - self._held() - mine
        assert self.boxes.set_aside(back) == free
        for each in reversed(back):
            self.waiting[each.wallet_ids[0]].insert(0, each)
        self.elsewhere |= free | held & mine
        self.boxes.free(mine - held)

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0))
    def settle(self, which: int) -> None:
        batch, mine = self.batches.pop(which % len(self.batches))
        self.over += batch
        self.boxes.free(mine)

    @precondition(lambda self: self.elsewhere)
    @rule(some=st.sets(st.sampled_from(WALLETS), min_size=1))
    def freed_elsewhere(self, some: set[int]) -> None:
        self.boxes.free(some & self.elsewhere)
        self.elsewhere -= some

    @precondition(lambda self: self._count() and self._held())
    @rule()
    def the_oldest_expires(self) -> None:
        oldest = min(box[0].deadline for box in self.waiting.values() if box)
        self.expire(max(0, int(oldest) - self.now))

    @rule(ticks=st.sampled_from([0, 1, DEADLINE_TICKS // 3]))
    def expire(self, ticks: int) -> None:
        self.now += ticks
        late = [each for box in self.waiting.values() for each in box if each.deadline <= self.now]
        gone = list(self.boxes.expired(self.now))
        assert sorted(each.orders[0].id for each in gone) == sorted(each.orders[0].id for each in late)
        for each in gone:
            self.waiting[each.wallet_ids[0]].remove(each)
        self.over += gone

    @invariant()
    def waiting_is_counted(self) -> None:
        assert self.boxes.waiting == self._count()
        assert self.boxes.idle == (not self._count() and not self._held())

    @invariant()
    def nothing_is_lost_and_nothing_doubled(self) -> None:
        waiting = [each for box in self.waiting.values() for each in box]
        under_way = [each for batch, _ in self.batches for each in batch]
        everywhere = [each.orders[0].id for each in [*waiting, *under_way, *self.over]]
        assert sorted(everywhere) == [each.orders[0].id for each in self.accepted]

    def teardown(self) -> None:
        """Whatever has happened, everything drains once the wallets are free again."""
        if not hasattr(self, "boxes"):
            return
        while self.batches or self.elsewhere or self._count():
            if self.batches:
                self.settle(0)
            elif self.elsewhere:
                self.freed_elsewhere(set(self.elsewhere))
            else:
                assert self._take(3), "free wallets have mail and nobody takes it"
        assert self.boxes.idle
        self.nothing_is_lost_and_nothing_doubled()

    def _count(self) -> int:
        return sum(map(count, self.waiting.values()))

    def _held(self) -> set[int]:
        return self.elsewhere.union(*(mine for _, mine in self.batches))


def test_mail_that_came_back_counts_against_the_bound_again() -> None:
    boxes = Mailboxes(per_wallet_max=2, total_max=100)
    for number in (1, 2):
        boxes.put(mail(number, 1, 2))
    assert boxes.give_back(boxes.take(10), {2}) == []
    with pytest.raises(Overloaded):
        boxes.put(mail(3, 1))


TestPost = Post.TestCase
TestPost.settings = settings(max_examples=150, stateful_step_count=60)


@pytest.fixture
def boxes() -> Mailboxes:
    return Mailboxes(per_wallet_max=1000, total_max=10_000)


def numbers(mails: Iterable[Mail]) -> list[int]:
    return [each.orders[0].id.int for each in mails]


def test_a_merchant_paid_by_a_thousand_wallets_is_settled_in_one_batch(boxes: Mailboxes) -> None:
    for sender in range(1000):
        boxes.put(mail(sender, 2000 + sender, 1))
    assert len(boxes.take(1000)) == 1000


def test_wallets_take_turns_when_one_has_more_mail_than_a_batch_holds(boxes: Mailboxes) -> None:
    for number in range(6):
        boxes.put(mail(number, 1))
    boxes.put(mail(100, 2))
    assert numbers(boxes.take(4)) == [0, 1, 2, 3]
    boxes.free({1})
    assert numbers(boxes.take(4)) == [100, 4, 5]


def test_a_mail_of_many_is_not_passed_over_for_ever_by_those_that_fit(boxes: Mailboxes) -> None:
    for number in range(4):
        boxes.put(mail(number, 1))
    boxes.put(mail(100, 2, orders=8))
    for number in range(4, 8):
        boxes.put(mail(number, 3))
    assert numbers(boxes.take(10)) == [0, 1, 2, 3], "the next one waits for room, and nobody goes before it"
    boxes.free({1})
    boxes.put(mail(8, 1))
    assert numbers(boxes.take(10)) == [100, 4, 5]


def test_a_mail_of_more_than_any_bound_is_carried_out_alone() -> None:
    boxes = Mailboxes(per_wallet_max=3, total_max=5)
    boxes.put(mail(1, 1, orders=9))
    with pytest.raises(Overloaded):
        boxes.put(mail(2, 2))
    assert numbers(boxes.take(2)) == [1]
    boxes.put(mail(2, 2))
    assert (numbers(boxes.take(2)), boxes.waiting) == ([2], 0)


def test_an_order_behind_an_expired_one_need_not_wait_for_the_wallet_that_the_expired_one_needed(
    boxes: Mailboxes,
) -> None:
    boxes.put(mail(1, 7))
    assert numbers(boxes.take(10)) == [1]
    boxes.put(mail(2, 1, 7, deadline=5))
    boxes.put(mail(3, 1, 8, deadline=15))
    assert boxes.take(10) == []
    assert numbers(boxes.expired(10)) == [2]
    assert numbers(boxes.take(10)) == [3]


@pytest.mark.parametrize("answer", [lambda it: it.refuse(Overloaded()), lambda it: it.receive([])])
def test_a_mail_whose_asker_has_gone_is_answered_to_nobody(answer: Callable[[Mail], None]) -> None:
    class Gone(Nobody):
        def done(self) -> bool:
            return True

    answer(Mail(orders=mail(1, 1).orders, wallet_ids=(1,), reply=Gone(), deadline=0.0))
