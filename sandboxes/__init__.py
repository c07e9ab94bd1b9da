"""Runs untrusted strategy code in pooled, isolated sandboxes."""
