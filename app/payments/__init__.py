"""Money from the outside: deposits, withdrawals, transfers, bulks, and a wallet's history."""
