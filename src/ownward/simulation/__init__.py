"""A trace replayed against a deployment: latency percentiles, goodput, utilisation, the smallest fleet.

It does not know where step times come from, or prices.
"""
