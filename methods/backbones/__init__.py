"""Backbones: pre-trained text-to-motion diffusion models behind methods.interface.Backbone."""
