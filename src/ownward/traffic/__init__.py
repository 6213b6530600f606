"""Requests as columns: readers of logs and traces, and the discovery of workloads in them.

It does not know models' shapes, machines or prices, and never opens a file.
"""
