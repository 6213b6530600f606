"""One request's calls: made, raced, retried, translated, relayed, continued, and written down."""
