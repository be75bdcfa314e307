"""What a trained model computes: how alike its layers are to others, what breaks it, how far it looks.

Every function takes a model and images, or arrays, and returns arrays; `probe` puts them together for one run.
"""
