"""Exchange rates: fetched on a schedule, doubted, kept, and held at hand for the hot path."""
