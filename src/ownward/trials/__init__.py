"""Measure quality: sampled tasks on candidate strategies, graded into evidence.

It does not know how certificates are computed or requests are sent.
"""
