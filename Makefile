# make demo   install into a fresh environment and open a real checkpoint
# make test   install what the tests need and run everything that CI runs
# make dev    an environment to work in; `make lint`, `make wheel` use it
# make pythons   the one wheel, tested under other Pythons
# make differential   the pickle machine against a second one, on a million spoilt pickles: minutes
# make sweep   every spoilt version of every small file: many minutes
# make mutants  files spoilt at random, MUTANTS of them, through the audit
# make fuzz    every fuzz target for FUZZ_SECONDS each, with clang's libFuzzer

PYTHON ?= python3.11
DEMO := .demo
VENV := .venv
PIP := -m pip install --quiet --disable-pip-version-check
SHIPPED := tests/data/lesson/lesson.pth

.PHONY: demo dev browser test lint wheel pythons differential sweep mutants fuzz clean

demo: $(DEMO)/ready
	$(DEMO)/bin/pthparse info $(SHIPPED)
	$(DEMO)/bin/pthparse show $(SHIPPED) 'embed.weight[0:2]'

$(DEMO)/ready: setup.py pyproject.toml $(wildcard csrc/*.[ch] csrc/defs/*.def pthparse/*.p* pthparse/*/*.py)
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python $(PIP) .
	touch $@

dev: $(VENV)/ready

$(VENV)/ready: setup.py pyproject.toml tests/requirements.txt $(wildcard csrc/*.[ch] csrc/defs/*.def pthparse/*.p*)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -r tests/requirements.txt
	PTHPARSE_WERROR=1 $(VENV)/bin/python $(PIP) --no-build-isolation --editable .
	touch $@

# cython-lint calls pycodestyle by its bare name.
lint: export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
lint: dev
	ruff check .
	ruff format --check .
	cython-lint pthparse
	clang-format --dry-run -Werror csrc/*.[ch] tests/native/*.c tests/fuzz/*.[ch] tests/fuzz/targets/*.c
	mypy

# Where CI runs as root, with Debian's packages: the page is looked at in a browser. Elsewhere those tests say what is missing.
browser:
	@if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromedriver >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver libcairo2 >/dev/null || true; \
	fi

# By as many processes as there are processors; a file of tests stays in one.
test: dev browser lint
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

wheel: dev
	rm -rf dist build
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# pytest itself, not `python -m pytest`: the sources here must not be imported in the wheel's place.
PYTHONS ?= python3.11 python3.12 python3.13
pythons: wheel
	for python in $(PYTHONS); do \
	  home=.pythons/$$(echo $$python | tr / _) && rm -rf $$home && $$python -m venv $$home && \
	  $$home/bin/python $(PIP) dist/*.whl pytest hypothesis && \
	  $$home/bin/pytest -q --ignore tests/house --ignore tests/native --ignore tests/fuzz || exit 1; \
	done

sweep: dev
	PTHPARSE_SWEEP=all $(VENV)/bin/python -m pytest -q tests/native

differential: dev
	PTHPARSE_DIFFERENTIAL=1000000 $(VENV)/bin/python -m pytest -q tests/differential

MUTANTS ?= 1000000
mutants: dev
	cd tests && ../$(VENV)/bin/python -m security.mutants $(MUTANTS)

FUZZ_SECONDS ?= 60
fuzz: export FUZZ_SECONDS := $(FUZZ_SECONDS)
fuzz: dev
	$(VENV)/bin/python tests/fuzz/run.py

clean:
	rm -rf build dist $(DEMO) $(VENV) .pythons *.egg-info pthparse/*.so pthparse/_core.c
