"""Decide: fit a model to a machine, plan a ledger's workloads onto tiers.

It is a library without I/O and does not know how a plan is run.
"""
