"""What a request is held to: its key, its budgets and limits, its turn, and what it may cost at most."""
