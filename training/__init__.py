"""The code that made `models/starter`: drawn scenes, a VAE, a text encoder and a U-Net.

`python -m training --out DIR` runs all of it; see README.md beside this file.
"""
