"""Clients' connections: bytes into requests, answers into bytes, and the limits and certificates of the port."""
