"""Passwords: hashed, judged, changed, and reset where they are forgotten."""
