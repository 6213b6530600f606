"""Where a request's data may travel: labels that only shrink, and the permit each outbound call shows.

It does not know prices, health or load, and opens nothing.
"""
