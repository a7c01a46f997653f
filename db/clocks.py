"""How far clocks may be apart. The time of whatever is kept is PostgreSQL's; hosts have clocks of their own."""

from datetime import timedelta

CLOCKS_DIFFER_SECONDS = 60.0
CLOCKS_DIFFER = timedelta(seconds=CLOCKS_DIFFER_SECONDS)
