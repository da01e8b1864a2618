from dassl.engine.dg.vanilla import Vanilla  # noqa: F401
