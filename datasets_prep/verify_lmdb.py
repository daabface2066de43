"""``lightbsr data verify`` as a script.

python datasets_prep/verify_lmdb.py datasets/photos.lmdb
"""

import sys

from lightbsr.commands.data import main_of_script

if __name__ == "__main__":
    sys.exit(main_of_script("verify_lmdb", "verify"))
