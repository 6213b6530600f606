"""What owning costs, what renting costs, where they cross, and the cost of a completed task.

It does not know how utilisation was found.
"""
