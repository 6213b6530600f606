"""Whether data ever travels where its label does not let it: a state machine over the real gateway, and its mutants."""
