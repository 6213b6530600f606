"""A model's shape, exact to the parameter: counts by role, bytes by type, cache, FLOP.

It does not know machines, speeds or prices.
"""
