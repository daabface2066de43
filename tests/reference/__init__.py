"""The published networks and losses as plain functions of a state dict under the authors' key names.

They are written from the papers, layer by layer, and share no code with the package.
"""
