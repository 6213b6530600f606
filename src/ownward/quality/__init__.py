"""Graders, e-processes and certificates: whether a strategy completes what the baseline completes.

It does not know who ran the tasks, or what a model is.
"""
