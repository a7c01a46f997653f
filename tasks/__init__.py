"""What happens without a request: mail, exchange rates, monthly fees, upkeep."""
