from functools import partial

import torch

RAdam = partial(torch.optim.RAdam, decoupled_weight_decay=True)  # as Dassl's own, which decays the weights themselves
