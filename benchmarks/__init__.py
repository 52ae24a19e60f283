"""Timings against the tools that users have. Each module prints one JSON object a line."""
