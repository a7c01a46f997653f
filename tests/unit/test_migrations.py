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

ADD_CONSTRAINT = r"manager\.add_constraint\("
LOCKS_LONG = {
    r"CREATE\s+(UNIQUE\s+)?INDEX(?!\s+CONCURRENTLY)": "writers wait: name the index in INDEXES",
    r"DROP\s+INDEX(?!\s+CONCURRENTLY)": "readers wait behind it: drop it concurrently",
    r"\bREINDEX\b(?!.*CONCURRENTLY)": "everybody waits: reindex concurrently",
    r"ADD\s+CONSTRAINT(?!.*NOT\s+VALID)": "it reads the table: add it NOT VALID, validate it in another migration",
    r"VALIDATE\s+CONSTRAINT": "only in a migration of its own: manager.validate(…) of an OnlineMigrationManager",
    r"SET\s+NOT\s+NULL": "it reads the table: a CHECK that is NOT VALID first, validated later",
    r"ALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE": "it rewrites the table: a new column, filled in batches",
    r"\bADD\s+COLUMN\b.*DEFAULT\s+\w+\(": "a default that is computed rewrites the table",
    r"\b(VACUUM\s+FULL|CLUSTER)\b": "it rewrites the table",
    r"\bLOCK\s+TABLE\b": "the migration's own lock_timeout lets others through; a lock of its own may not",
    r"\b(UPDATE\s+\"?\w+\"?\s+SET|DELETE\s+FROM)\b": "many rows in one transaction: fill them in batches",
    r"manager\.alter_column\(": "Piccolo may rewrite the table: write the statement by hand",
    ADD_CONSTRAINT: "it reads the table: use an OnlineMigrationManager, and validate in another migration",
    r"(?m)^\s*\"(unique|index)\": True": "Piccolo makes the index while writers wait: name it in INDEXES",
}
ONLINE = "OnlineMigrationManager("
ALLOWED = re.compile(r"# locks: \S")
# A table that the same migration makes is empty, and nobody uses it yet.
NEW_TABLE = re.compile(r"manager\.add_table\(.*?tablename=\"(\w+)\"", re.DOTALL)


def refused(text: str) -> list[str]:
    """What is refused of a migration's text: the line's number and why."""
    lines = text.splitlines()
    new = NEW_TABLE.findall(text)
    found = []
    for pattern, why in LOCKS_LONG.items():
        if pattern == ADD_CONSTRAINT and ONLINE in text:
            continue
        for match in re.finditer(pattern, text, re.IGNORECASE):
            first, last = (text.count("\n", 0, place) for place in match.span())
            around = lines[max(0, first - 1) : last + 1]
            of_new = any(f'"{table}"' in text[match.start() : match.start() + 800] for table in new)
            if not of_new and not any(ALLOWED.search(line) for line in around):
                found.append(f"line {last + 1}: {why}")
    return found


def not_validated(texts: list[str]) -> set[str]:
    """The constraints that one of these migrations, in their order, adds NOT VALID and no later one validates."""
    waiting: set[str] = set()
    for text in texts:
        waiting -= set(re.findall(r"VALIDATE\s+CONSTRAINT\s+\"?(\w+)", text))
        waiting -= set(re.findall(r"manager\.validate\(\s*\"\w+\",\s*\"(\w+)\"", text))
        waiting |= set(re.findall(r"ADD\s+CONSTRAINT\s+\"?(\w+)\"?.*?NOT\s+VALID", text, re.DOTALL))
        if ONLINE in text:
            new = NEW_TABLE.findall(text)
            for call in re.findall(r"manager\.add_constraint\((.*?)\n    \)", text, re.DOTALL):
                if not any(f'tablename="{table}"' in call for table in new):
                    waiting |= set(re.findall(r"constraint_name=\"(\w+)\"", call))
    return waiting


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


def test_whatever_is_added_without_looking_at_old_rows_is_validated_later() -> None:
    assert not_validated([path.read_text() for path in sorted(FOLDER.glob("db_*.py"))]) == set()


ADDED = """
    manager = OnlineMigrationManager(migration_id=ID, app_name="db", description=DESCRIPTION)
    manager.add_constraint(
        table_class_name="Entry",
        tablename="entry",
        constraint_name="entry_positive",
        constraint_class=Check,
        params={"condition": "true"},
        schema=None,
    )
"""
BY_HAND = 'ALTER TABLE "entry" ADD CONSTRAINT "entry_positive" CHECK ("a" > 0) NOT VALID'


@pytest.mark.parametrize("added", [ADDED, BY_HAND])
@pytest.mark.parametrize(
    "validated",
    ['    manager.validate("entry", "entry_positive")', 'ALTER TABLE "entry" VALIDATE CONSTRAINT "entry_positive"'],
)
def test_a_constraint_that_waits_for_its_validation_is_found(added: str, validated: str) -> None:
    assert not refused(added)
    assert not_validated([added]) == not_validated([validated, added]) == {"entry_positive"}
    assert not_validated([added, "other", validated]) == set()


def test_ids_and_file_numbers_are_in_one_order() -> None:
    """Piccolo runs migrations in the order of their ids, people read them in that of their numbers."""
    texts = [path.read_text() for path in sorted(FOLDER.glob("db_*.py"))]
    ids = [re.findall(r'^ID = "(.*)"$', text, re.MULTILINE) for text in texts]
    assert all(len(found) == 1 for found in ids)
    assert ids == sorted(ids)
    assert [path.name[3:7] for path in sorted(FOLDER.glob("db_*.py"))] == [f"{n:04}" for n in range(1, len(ids) + 1)]
