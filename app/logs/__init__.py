"""What the long-running processes write to stderr, line by line."""
