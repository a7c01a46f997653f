"""One noun a file, its body structs beside it."""
