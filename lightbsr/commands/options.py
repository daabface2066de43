"""``lightbsr options``."""

import argparse
from pathlib import Path

from lightbsr.errors import UserError

HELP = "check an options file, show it merged with its base, or print the reference of all options"
DESCRIPTION = (
    "Check options files as basicsr train and basicsr test do, without starting a run. --show prints a file merged "
    "with its base. --schema prints the JSON schema for editors, and --reference the page of all options."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.yml", help="options file to check")
    parser.add_argument("--test", action="store_true", help="check for basicsr test, not for basicsr train")
    parser.add_argument("--show", action="store_true", help="print each file merged with its base, without a check")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema (options/schema.json)")
    parser.add_argument("--reference", action="store_true", help="print the page of all options (docs/options.md)")


def run(args: argparse.Namespace) -> int:
    if bool(args.files) + args.schema + args.reference != 1:
        raise UserError("give options files to check, or --schema, or --reference")

    from lightbsr_arch.config.load import load_options
    from lightbsr_arch.config.merge import self_contained_text
    from lightbsr_arch.config.reference import json_schema, options_page
    from lightbsr_arch.plugins import load_plugins

    if args.schema or args.reference:
        print(json_schema() if args.schema else options_page(), end="")
        return 0
    load_plugins()
    code = 0
    for file in args.files:
        try:
            if args.show:
                print(self_contained_text(file), end="")
                continue
            load_options(file, is_train=not args.test)
        except UserError as error:
            print(error)
            code = 1
        else:
            print(f"{file}: no problem found")
    return code
