"""``lightbsr data df2k`` as a script.

python datasets_prep/prepare_df2k.py datasets/DF2K datasets/DF2K.lmdb --download
"""

import sys

from lightbsr.commands.data import main_of_script

if __name__ == "__main__":
    sys.exit(main_of_script("prepare_df2k", "df2k"))
