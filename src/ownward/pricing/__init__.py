"""One request's price: the price book and the arithmetic of a charge.

It does not know owning costs, and never takes an unknown price as zero.
"""
