"""Who people are: registration, sign-in and sessions, passwords, profiles, and what is kept about them."""
