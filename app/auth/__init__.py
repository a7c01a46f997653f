"""Tokens and sessions: who is asking, since when, and until when."""
