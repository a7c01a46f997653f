"""Errors that are meant for people."""

# What is wrong with most addresses that lead nowhere.
ESCAPING = "write special characters of a password as %23 (#), %2F (/), %3A (:), %3F (?), %40 (@) and so on"


class ReadableError(Exception):
    """Something that whoever gave the command can mend; the message is a sentence that says how, and has no secrets."""
