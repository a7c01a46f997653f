"""The rules do what the naive bank does, whatever is asked of both."""

from hypothesis import settings

from tests.unit.stateful import Books

TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=60)
