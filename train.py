"""CoOp's command line: the same program as `cilmp train`."""

from cilmp.errors import exit_on_user_error
from cilmp.train import guarded

if __name__ == "__main__":
    exit_on_user_error(guarded)
