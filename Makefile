# make demo   sets up .venv, trains a small teacher and student on the demo photos, shows table and pictures
# make weights PHOTOS="DIR..."   makes the shipped weights again, in hours: docs/weights.md
# make test   sets up .venv and runs the tests
# make check  ruff, mypy and the rules on imports
# make reference  makes docs/options.md and options/schema.json again
# make messages   makes tests/config/messages.txt again
# make fuzz   changes options and pictures at random for MINUTES each (30)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-data weights test check reference messages fuzz clean

demo: $(READY) demo-data
	$(BIN)/basicsr train -opt options/teacher.yml
	$(BIN)/basicsr train -opt options/student.yml
	$(BIN)/python examples/demo_report.py

demo-data: datasets/demo/train.lmdb datasets/demo/held_out.lmdb

# BMP entries: the training crops are cut out of the file without decoding it.
datasets/demo/train.lmdb: | $(READY)
	$(BIN)/lightbsr data prepare examples/photos/train $@ --crop 0 --codec bmp

datasets/demo/held_out.lmdb: | $(READY)
	$(BIN)/lightbsr data prepare examples/photos/held_out $@ --crop 0 --codec png

weights: $(READY)
	test -d datasets/photos/train.lmdb || \
		$(BIN)/lightbsr data prepare $(PHOTOS) datasets/photos/train.lmdb --crop 512 --step 512 --codec bmp \
			--exclude examples/photos/held_out
	for name in kdsr_s_x4_iso lightbsr_s_x4_iso kdsr_s_x4_real; do for stage in teacher student; do \
		$(BIN)/basicsr train -opt options/weights/$${name}_$$stage.yml --auto_resume || exit; done; done
	$(BIN)/python benchmarks/ship_weights.py pack options/weights/kdsr_s_x4_iso_teacher.yml options/weights/*_student.yml

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

reference: $(READY)
	$(BIN)/lightbsr options --reference > docs/options.md.new && mv docs/options.md.new docs/options.md
	$(BIN)/lightbsr options --schema > options/schema.json.new && mv options/schema.json.new options/schema.json

messages: $(READY)
	$(BIN)/python -m pytest --update-messages tests/config tests/bench/test_bench.py tests/models/test_objectives.py tests/test_own_estimator.py

MINUTES ?= 30

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz_options --minutes $(MINUTES)
	$(BIN)/python -m tests.fuzz_pictures --minutes $(MINUTES)

# PyTorch goes first, and BasicSR is built beside it: its build asks for torch, which an isolated build installs again.
$(READY): setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.10 to 3.14 found; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet torch torchvision cython numpy
	$(BIN)/python -m pip install --quiet --no-build-isolation -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv datasets/demo demo_output
