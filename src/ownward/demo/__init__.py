"""The whole loop once, on shipped real data and the embedded model.

It adds nothing that the other rooms do not offer to everyone.
"""
