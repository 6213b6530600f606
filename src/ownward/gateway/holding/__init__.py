"""What a request is held to: its key, its budgets and limits, and its turn."""
