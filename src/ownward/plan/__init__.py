"""The plan's types and its TOML: tiers, workloads, strategies, floors, budgets, and where each figure came from.

It does not know how a plan is decided or carried out.
"""
