"""Where Dassl keeps what is in checkpoints.py and modules.py."""

from dassl.utils.checkpoints import (  # noqa: F401
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.modules import (  # noqa: F401
    count_num_param,
    init_network_weights,
    open_all_layers,
    open_specified_layers,
    set_bn_to_eval,
)
