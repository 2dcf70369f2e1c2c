"""The torch reader: live models and checkpoints, and their exact profiles.

Importing this package costs nothing. Its modules import torch where they need it, and say which extra brings it where
it is missing; a safetensors file is read without torch.
"""
