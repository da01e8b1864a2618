from dassl.utils.checkpoints import (  # noqa: F401
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.errors import BrokenImage, SettingError  # noqa: F401
from dassl.utils.logger import Logger, setup_logger  # noqa: F401
from dassl.utils.meters import AverageMeter, MetricMeter  # noqa: F401
from dassl.utils.modules import (  # noqa: F401
    count_num_param,
    init_network_weights,
    open_all_layers,
    open_specified_layers,
)
from dassl.utils.registry import Registry  # noqa: F401
from dassl.utils.seeds import set_random_seed  # noqa: F401
from dassl.utils.tools import (  # noqa: F401
    check_availability,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    tolist_if_not,
    write_json,
)
