"""HTTP for all rooms: bodies and parameters in, answers and problems out."""
