"""Matplotlib figures and animations from arrays. Only this package imports matplotlib.

style        colours, type, and how figures are saved
windows      DRAW's windows drawn on magnified images
grids        labelled rows and grids of images
curves       training curves, KL of each group
attention    positions, sizes and sharpness of DRAW's windows
maps         two-dimensional maps of representations
neighbours   nearest training images
groups       generation with some latent groups fixed and the others from their prior
films        images step by step: GIF, strip, sprite sheet
scenes       films of a model that generates or reconstructs images
gallery      all figures of a model, in order
exhibits     the forms in which each kind of object is shown: HTML, text, picture files
showing      limner.show: in a notebook, a window or a file
"""
