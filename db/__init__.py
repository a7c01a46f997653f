"""What is kept: tables, the ledger's statements, and the servers that keep it."""
