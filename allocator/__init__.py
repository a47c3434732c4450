"""Bits and method for every part of a vision-language model, under a budget."""
