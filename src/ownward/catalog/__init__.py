"""Facts as data files: models, machines, rental offers, electricity, prices, licences, each with source and date.

It computes nothing from them and does not know who asks.
"""
