"""Read every entry of an LMDB back, decode it, compare it with meta_info.txt, and name what is wrong.

Exit status: 0 all is well; 1 faults, listed; 2 it cannot be opened.

    python datasets_prep/verify_lmdb.py datasets/photos.lmdb
"""

import argparse
import sys
from pathlib import Path

from lightbsr_arch.data.lmdb_verify import verify_lmdb
from lightbsr_arch.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lmdb", type=Path, nargs="+", metavar="NAME.lmdb")
    status = 0
    for path in parser.parse_args().lmdb:
        try:
            count, faults = verify_lmdb(path)
        except UserError as error:
            print(f"verify_lmdb: {error}", file=sys.stderr)
            status = 2
            continue
        print(f"{path}: {count} entries, {len(faults)} faults")
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        status = max(status, int(bool(faults)))
    return status


if __name__ == "__main__":
    sys.exit(main())
