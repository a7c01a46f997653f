"""Whose processor time and memory is counted."""

from hypothesis import given
from hypothesis import strategies as st

from bench.proc import Seen, family


@given(st.data())
def test_a_family_is_everybody_whose_ancestors_lead_to_it_unless_one_is_left_out(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    # Parents are older: no process is its own ancestor.
    parents = {pid: data.draw(st.integers(0, pid - 1)) for pid in range(1, size + 1)}
    seen = {pid: Seen(parent, pid, pid) for pid, parent in parents.items()}
    head = data.draw(st.integers(1, size))
    without = data.draw(st.sets(st.integers(1, size)))

    def belongs(pid: int) -> bool:
        while pid != head:
            if pid == 0 or pid in without:
                return False
            pid = parents[pid]
        return True

    assert sorted(process.memory_mib for process in family(head, seen, without=without).values()) == list(
        filter(belongs, parents)
    )
