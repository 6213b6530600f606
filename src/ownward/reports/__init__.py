"""Cost per completed task, savings, certificates and what is not known, from ledger rows.

It does not query the ledger and decides nothing.
"""
