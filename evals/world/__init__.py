"""A small drawn world, written out in the official formats of four tasks.

Scenes of up to four objects, each a colour, a shape and a size in one quarter of a
small picture, and a two-syllable name to remember for every kind of object. Everything
follows from a seed.
"""
