"""Predictions by exported models, without torch."""
