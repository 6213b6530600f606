"""The parts that layers are made of: attention, linear attention, feed-forward, towers."""
