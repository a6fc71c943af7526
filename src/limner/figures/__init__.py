"""Arrays in, matplotlib figures and animations out. Nothing else in Limner imports matplotlib.

style        colours, type, and how figures are saved
tiles        images side by side, as arrays
windows      DRAW's windows drawn on magnified images
grids        labelled rows and grids of images
curves       training curves, KL of each group
attention    where DRAW looks, and how large and sharp its windows are
maps         two-dimensional maps of representations
neighbours   nearest training images
groups       generating with some latent groups held and the rest at their prior's mean
films        images on their way, step by step: GIF, still strip, sprite
scenes       films of a model: generating, and explaining images
gallery      every figure of a model, one after the other
"""
