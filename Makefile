# make run: set up and run the main job on real data.  make test: set up and test.  make bench: the benchmarks.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
export DEEPFIELD_DATA ?= $(realpath ../shared/data)

.PHONY: run test bare lint docs bench bench-morphology bench-lensing bench-inference bench-emulators clean
run: $(VENV)/.installed
	$(PY) -m deepfield.cli run photoz --out report
	@echo "open report/index.html"

test: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal

# The base install alone: no optional library, and `import deepfield` loads none of the required ones.
bare:
	rm -rf .venv-bare
	$(PYTHON) -m venv .venv-bare
	.venv-bare/bin/python -m pip install -q --upgrade pip -c constraints.txt
	.venv-bare/bin/python -m pip install -q -c constraints.txt .
	.venv-bare/bin/python .ci/bare_install.py
	rm -rf .venv-bare

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-test
	$(PY) -m pip install -q -c constraints.txt -e '.[docs]'
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

# The whole benchmark: the peers in an environment of their own, deepfield, the speed, the page. About four hours on
# two cores: 5 peers x 12 splits x (2 minutes of tuning and as much for the fit at most), then 2 to 3 minutes of
# deepfield for each split, then 20 million rows streamed. A split whose peers are done is not done again.
# A trial of a few minutes: make bench BENCH_DATA=mgs BENCH_SEEDS=0 BENCH_BUDGET=5 BENCH_ROWS=1000000
# (results and page are written over; git restores them).
PEERS := .venv-peers
BENCH_DATA ?= boss mgs zcosmos dc2
BENCH_SEEDS ?= 0 1 2
BENCH_BUDGET ?= 120
BENCH_ROWS ?= 20000000
BENCH_WORK ?= benchmarks/work/$(BENCH_BUDGET)s

bench: $(VENV)/.installed-test $(foreach d,$(BENCH_DATA),$(foreach s,$(BENCH_SEEDS),$(BENCH_WORK)/$d/$s/.done))
	$(PY) benchmarks/photoz.py --peers $(BENCH_WORK) --data $(BENCH_DATA) --seeds $(BENCH_SEEDS)
	$(PY) benchmarks/photoz_speed.py --peers $(BENCH_WORK) --rows $(BENCH_ROWS)
	$(PY) benchmarks/photoz_below_zero.py
	$(PY) benchmarks/photoz_page.py

# Galaxy morphology: about two hours on two cores. Runs whose results are there are not done again: delete
# benchmarks/results/morphology_*.json first. The speed of escnn needs an environment of its own (see the script).
# The epochs give the nets of both groups equal processor time on the machine of the page; the page prints it.
BENCH_NETS ?= benchmarks/work/nets
FAIR := "validation": 0.06, "calibration": 0.06
bench-morphology: $(VENV)/.installed-test
	$(PY) benchmarks/morphology.py galaxies --groups d8 --seeds 0 1 2 --settings '{$(FAIR), "epochs": 43}' --models $(BENCH_NETS)
	$(PY) benchmarks/morphology.py galaxies --groups none --seeds 0 1 2 --settings '{$(FAIR), "epochs": 72}' --models $(BENCH_NETS)
	$(PY) benchmarks/morphology.py compare --groups d8 --seeds 0 1 2 --models $(BENCH_NETS)
	$(PY) benchmarks/morphology.py chirality --groups d8 c8
	$(PY) benchmarks/morphology.py radio --groups c8 none p4m d8 p4 --seeds 0 1 2 --seconds 20 --crop 96 --pixels 48
	$(PY) benchmarks/morphology.py votes --seeds 0 1 2 --seconds 100
	$(PY) benchmarks/morphology.py active --seeds 0 1 2 3 4 --sizes 200,400,600,900,1200 --steps 300
	$(PY) benchmarks/morphology_simulate.py
	$(PY) benchmarks/morphology_speed.py
	$(PY) benchmarks/morphology_page.py

bench-lensing: $(VENV)/.installed-test
	$(PY) benchmarks/lensing_weights.py --work $(BENCH_WORK)/lensing
	$(PY) benchmarks/lensing.py find measure prior --work $(BENCH_WORK)/lensing
	$(PY) benchmarks/lensing_real.py
	$(PY) benchmarks/lensing_simulate.py --write
	$(PY) benchmarks/lensing_page.py

# Simulation-based inference: some hours on one core, most of them sbi's. Results that are there are not done again.
SBI := .venv-sbi
bench-inference: $(SBI)/.installed
	$(SBI)/bin/python benchmarks/inference.py --codes deepfield deepfield:6 deepfield:12 sbi
	$(SBI)/bin/python benchmarks/inference.py --n 1000
	$(SBI)/bin/python benchmarks/inference_densities.py --c2st
	$(SBI)/bin/python benchmarks/inference_cosmology.py posteriors
	$(SBI)/bin/python benchmarks/inference_cosmology.py calibration
	$(SBI)/bin/python benchmarks/inference_maps.py power wavelets --n 50000
	$(SBI)/bin/python benchmarks/inference_shear.py posteriors
	$(SBI)/bin/python benchmarks/inference_page.py

$(SBI)/.installed:
	$(PYTHON) -m venv $(SBI)
	$(SBI)/bin/python -m pip install -q -c constraints.txt -e . sbi==0.27.0
	$(SBI)/bin/python -m pip install -q --no-deps --target benchmarks/work/sbibm sbibm==1.1.0
	touch $@

# Emulators: an hour on one core, most of it CAMB (extra emulators); finished runs are kept in BENCH_WORK.
# emulators_peers.py asks for an environment for each peer.
bench-emulators: $(VENV)/.installed-test
	$(PY) -m pip install -q -c constraints.txt -e '.[emulators]'
	$(PY) benchmarks/emulators_fixture.py
	$(PY) benchmarks/emulators_design.py --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_weights.py linear --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_noise.py --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_chain.py data --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_chain.py chain --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_chain.py camb --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_miratitan.py --work $(BENCH_WORK)/emulators
	$(PY) benchmarks/emulators_weights.py miratitan --work $(BENCH_WORK)/emulators
	for part in simulate train fixture; do $(PY) benchmarks/emulators_wide.py $$part --work $(BENCH_WORK)/emulators || exit 1; done
	for part in simulate train noise fixture; do $(PY) benchmarks/emulators_cmb.py $$part --work $(BENCH_WORK)/emulators || exit 1; done
	$(PY) benchmarks/emulators.py speed
	$(PY) benchmarks/emulators.py page

# Each seed is tuned on its own validation rows. A peer that fails is named in the results, and the others go on.
$(BENCH_WORK)/%/.done: | $(PEERS)/.installed
	-$(PEERS)/bin/python benchmarks/photoz_peers.py --data $(word 1,$(subst /, ,$*)) --seed $(notdir $*) \
		--budget $(BENCH_BUDGET) --out $(@D) && touch $@

$(PEERS)/.installed: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q --no-deps -r $<
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip -c constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install -q -c constraints.txt -e '.[all]'
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install -q -c constraints.txt -e '.[all,test]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) report docs/_build
