class Silent:
    """Where TensorBoard is not installed, scalars go nowhere."""

    def add_scalar(self, *args, **kwargs) -> None:
        pass

    def close(self) -> None:
        pass


def SummaryWriter(log_dir: str, **kwargs):  # noqa: N802  the name third parties import
    """TensorBoard's writer, imported when one is wanted."""
    try:
        from torch.utils import tensorboard
    except ImportError:
        return Silent()
    print(f"Initialize tensorboard (log_dir={log_dir})")
    return tensorboard.SummaryWriter(log_dir=log_dir, **kwargs)
