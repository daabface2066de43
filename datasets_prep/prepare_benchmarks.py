"""``lightbsr data benchmarks`` as a script.

python datasets_prep/prepare_benchmarks.py datasets/Set5 datasets/Set14 datasets/benchmarks --scale 4
"""

import sys

from lightbsr.commands.data import main_of_script

if __name__ == "__main__":
    sys.exit(main_of_script("prepare_benchmarks", "benchmarks"))
