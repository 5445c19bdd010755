"""Measurements that docs quote: each page in docs/ names the command that writes it."""
