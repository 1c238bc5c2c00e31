"""The clock: prose over activities. No tables, no HTTP, no arithmetic.

Nothing is imported here: the sandbox imports this package anew for each run of a workflow, which would be all of them.
"""
