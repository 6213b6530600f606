"""The one outbound door: transport, permit check, dialects.

It does not know why an upstream was chosen.
"""
