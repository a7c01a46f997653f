"""Profile images: decoded in a process of their own, kept as files, served back."""
