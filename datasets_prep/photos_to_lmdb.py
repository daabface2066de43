"""``lightbsr data prepare`` as a script.

python datasets_prep/photos_to_lmdb.py ~/photos datasets/photos.lmdb --crop 480 --step 240
"""

import sys

from lightbsr.commands.data import main_of_script

if __name__ == "__main__":
    sys.exit(main_of_script("photos_to_lmdb", "prepare"))
