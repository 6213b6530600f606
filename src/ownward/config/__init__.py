"""The only reader of ownward.toml and of the environment.

It does not know what the settings do.
"""
