"""Wallets without their money moving: opened, listed, looked at, renamed."""
