"""Errors that are meant for people."""


class ReadableError(Exception):
    """Something that whoever gave the command can mend; the message is a sentence that says how, and has no secrets."""
