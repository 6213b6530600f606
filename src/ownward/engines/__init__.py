"""Run models: the store of weights, the embedded engine as a supervised child, adopted servers, the fake upstream.

It does not know prices, plans or who asks.
"""
