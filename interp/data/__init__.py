"""Shipped datasets, and files of trained tensors that name the model they belong to."""
