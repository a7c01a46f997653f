"""How orders reach the rules: mailboxes, locks, and the batch that loads, applies, saves and commits."""
