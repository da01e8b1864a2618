from dassl.engine.build import TRAINER_REGISTRY, build_trainer  # noqa: F401
from dassl.engine.dg import Vanilla  # noqa: F401
from dassl.engine.trainer import SimpleNet, SimpleTrainer, TrainerBase, TrainerX, TrainerXU  # noqa: F401
