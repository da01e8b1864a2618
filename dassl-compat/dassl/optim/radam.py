from torch.optim import RAdam  # noqa: F401
