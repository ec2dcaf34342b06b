"""Pieces of screen: pure functions from results to Dash components."""
