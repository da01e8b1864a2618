from dassl.optim.lr_scheduler import build_lr_scheduler  # noqa: F401
from dassl.optim.optimizer import build_optimizer  # noqa: F401
