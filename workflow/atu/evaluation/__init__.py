"""Asking a model the probes, and scoring what it says."""
