"""Sockets, uvicorn's protocol within bounds, a slow farewell, and the supervisor of child processes."""
