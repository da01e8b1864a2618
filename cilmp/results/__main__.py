"""Tables from the records of finished runs, never from logs.

cilmp results output                                   the tables the runs found there make
cilmp results output --table base2new --format latex   base, new and their harmonic mean
cilmp results output --rows trainer --columns dataset --metric auroc --where shots=16 classes=all
cilmp results output --compare CILMP                   paired significance against every other trainer
cilmp results output --beside                          the same, and published figures of the same cells
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cilmp.errors import UserError, exit_on_user_error
from cilmp.results import beside, published
from cilmp.results.protocols import TABLES
from cilmp.results.runs import chosen, note, pivot
from cilmp.results.tables import FORMATS, Table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="folder of runs, searched to any depth for result.json")
    add("--table", choices=TABLES, default="all", help="a table of the field; default: those the runs make")
    add("--rows", help="fields of the record down, separated by commas (trainer, dataset, shots, classes, config ...)")
    add("--columns", help="one field across, or 'metric' for accuracy, macro F1, AUROC and kappa")
    add("--metric", default="", help="a metric (default: accuracy), or another number of the record: seconds.train ...")
    add("--where", nargs="+", default=[], metavar="FIELD=VALUE", help="only such runs, e.g. shots=16 classes=all")
    add("--compare", metavar="TRAINER", help="paired tests of this trainer against every other")
    add("--beside", nargs="?", const=published.shipped(), metavar="FILE", help=beside.HELP)
    add("--format", choices=FORMATS, default="text")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    runs, _ = chosen(args.folder, args.where)
    metric = args.metric or "accuracy"
    tables: Sequence[Table]
    if args.compare:
        from cilmp.results.compare import compare

        tables = compare(runs, args.compare, metric)
    elif args.rows or args.columns:
        tables = [pivot(runs, (args.rows or "trainer").split(","), args.columns or "dataset", metric)]
    else:
        tables = TABLES[args.table](runs, metric)
    if args.beside:
        tables = [*tables, *beside.shown(runs, args.beside, args.metric)]
    if not tables:
        raise UserError(f"The runs under {args.folder} make no table '{args.table}'; see --rows and --columns.")
    if args.format == "csv":  # which has no place for them
        note(line for table in tables for line in table.notes)
    print("\n".join(table.render(args.format) for table in tables), end="")


if __name__ == "__main__":
    exit_on_user_error(main)
