"""This machine: what it is, and what its memory, disk and engines really do.

It does not know models or prices.
"""
