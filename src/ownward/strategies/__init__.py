"""How a task is served: direct, cascade, vote and their kin, as pure steps over named tiers.

It sends nothing itself and does not know addresses.
"""
