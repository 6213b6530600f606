"""Whether clients that people use work against this gateway, each in an environment of its own."""
