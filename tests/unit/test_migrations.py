"""
No migration holds up payments for long: what is known to lock a table while it reads or rewrites it is refused.

It reads the text, so it knows what is written there, not what it does: whoever writes a migration knows more. A line
with `# locks: why that is no harm`, or below one, is let through.
"""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "db" / "migrations"
FIRST = 7  # those before it were run on databases that nobody used yet

LOCKS_LONG = {
    r"CREATE\s+(UNIQUE\s+)?INDEX(?!\s+CONCURRENTLY)": "writers wait: name the index in INDEXES",
    r"DROP\s+INDEX(?!\s+CONCURRENTLY)": "readers wait behind it: drop it concurrently",
    r"\bREINDEX\b(?!.*CONCURRENTLY)": "everybody waits: reindex concurrently",
    r"ADD\s+CONSTRAINT(?!.*NOT\s+VALID)": "it reads the table: add it NOT VALID, validate it in another migration",
    r"VALIDATE\s+CONSTRAINT": "only in a migration of its own: the transaction keeps the lock of what came before",
    r"SET\s+NOT\s+NULL": "it reads the table: a CHECK that is NOT VALID first, validated later",
    r"ALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE": "it rewrites the table: a new column, filled in batches",
    r"\bADD\s+COLUMN\b.*DEFAULT\s+\w+\(": "a default that is computed rewrites the table",
    r"\b(VACUUM\s+FULL|CLUSTER)\b": "it rewrites the table",
    r"\bLOCK\s+TABLE\b": "the migration's own lock_timeout lets others through; a lock of its own may not",
    r"\b(UPDATE\s+\"?\w+\"?\s+SET|DELETE\s+FROM)\b": "many rows in one transaction: fill them in batches",
    r"manager\.alter_column\(": "Piccolo may rewrite the table: write the statement by hand",
    r"manager\.add_constraint\(": "it reads the table: add it NOT VALID by hand",
    r"(?m)^\s*\"(unique|index)\": True": "Piccolo makes the index while writers wait: name it in INDEXES",
}
ALLOWED = re.compile(r"# locks: \S")
# A table that the same migration makes is empty, and nobody uses it yet.
NEW_TABLE = re.compile(r"manager\.add_table\(.*?tablename=\"(\w+)\"", re.DOTALL)


def refused(text: str) -> list[str]:
    """What is refused of a migration's text: the line's number and why."""
    lines = text.splitlines()
    new = NEW_TABLE.findall(text)
    found = []
    for pattern, why in LOCKS_LONG.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            first, last = (text.count("\n", 0, place) for place in match.span())
            around = lines[max(0, first - 1) : last + 1]
            of_new = any(f'"{table}"' in text[match.start() : match.start() + 800] for table in new)
            if not of_new and not any(ALLOWED.search(line) for line in around):
                found.append(f"line {last + 1}: {why}")
    return found


def migrations() -> list[Path]:
    return [path for path in sorted(FOLDER.glob("db_*.py")) if int(path.name[3:7]) >= FIRST]


def test_no_migration_holds_up_payments_for_long() -> None:
    assert migrations(), "it looks in the wrong place"
    assert {path.name: found for path in migrations() if (found := refused(path.read_text()))} == {}


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE INDEX "a" ON "entry" ("b")',
        'CREATE UNIQUE INDEX "a" ON "entry" ("b")',
        'DROP INDEX "a"',
        'ALTER TABLE "entry" ADD CONSTRAINT "a" CHECK ("b" > 0)',
        'ALTER TABLE "entry" ALTER COLUMN "b" SET NOT NULL',
        'ALTER TABLE "entry" ALTER COLUMN "b" TYPE text',
        'ALTER TABLE "entry" ADD COLUMN "b" uuid DEFAULT gen_random_uuid()',
        'VACUUM FULL "entry"',
        'LOCK TABLE "entry"',
        'UPDATE "entry" SET "b" = 1',
        'DELETE FROM "message"',
        '            "index": True,',
        "    manager.alter_column(",
    ],
)
def test_what_locks_long_is_refused_unless_it_says_why_it_may(statement: str) -> None:
    assert refused(f"first\n{statement}\n")
    assert not refused(f"first\n# locks: an hour at night, announced\n{statement}\n")


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE INDEX CONCURRENTLY "a" ON "entry" ("b")',
        'ALTER TABLE "entry" ADD CONSTRAINT "a" CHECK ("b" > 0) NOT VALID',
        'ALTER TABLE "entry" ADD COLUMN "b" int DEFAULT 0',
        'INSERT INTO "wallet" ("name") SELECT 1',
    ],
)
def test_what_does_not_is_let_through(statement: str) -> None:
    assert not refused(statement)
