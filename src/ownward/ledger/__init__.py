"""The record of every request, task, outcome, cost and certificate, and the only room that touches a database.

It does not know why a request went where it went.
"""
