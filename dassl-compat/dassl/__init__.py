"""What trainers and data sets use of Dassl 0.6.3, for current PyTorch and NumPy."""

__version__ = "0.6.3+compat"
