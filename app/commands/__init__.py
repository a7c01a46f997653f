"""What each `wallet` command does."""
