"""The HTTP face and the `wallet` command."""
