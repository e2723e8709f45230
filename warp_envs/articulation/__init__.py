"""Articulated bodies over torch tensors: model, plain and compiled steps."""
