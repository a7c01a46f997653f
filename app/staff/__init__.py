"""Piccolo Admin with its forms, the worker dashboard, and the logins for both."""
