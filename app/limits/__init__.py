"""Who may ask how often, and how much of this process they get."""
