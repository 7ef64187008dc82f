"""Tests that drive a real browser; skipped where none is installed."""
