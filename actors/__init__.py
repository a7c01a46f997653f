"""Where money moves, and nowhere else: orders, rules, mailboxes, the batch."""
