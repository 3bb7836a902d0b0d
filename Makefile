# Everything a fresh clone needs: each target sets up its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# Every process of the tests would compile all sources anew, which is a tenth of what they take.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs evidence fuzz clean reference reference-language mlflow evidently

demo: $(VENV)/.ready-demo
	$(BIN)/python recipes/demo.py --out demo-out

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.ready-dev $(VENV)/lint/.ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy --config-file benchmarks/mypy.ini benchmarks/*.py
	$(VENV)/lint/bin/pydoclint --config=pyproject.toml --quiet src/ssmith

docs: $(VENV)/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# Damage files of every kind that is read; a minute of it is among the tests.
fuzz: $(VENV)/.ready-dev
	cd tests && ../$(BIN)/python -m fuzz.run $(ARGS)

# make bench-lti, make bench-lti QUICK=1
bench-%: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/$*.py $(if $(QUICK),--quick) $(ARGS)

# Render the tables that need no measuring of their own from the results that are stored.
evidence: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/costs_table.py
	$(BIN)/python benchmarks/which_tuning.py

# Train the shipped models anew and put them into the package (about an hour on two cores).
reference: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/ship.py

# The same for the language model (66 minutes on two cores that did other work as well); goes on where
# it was stopped.
reference-language: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/ship_language.py

$(VENV)/.ready-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[$*]'
	touch $@

# Apart from the rest: pydoclint's fork of docstring_parser and the package itself overwrite each other.
$(VENV)/lint/.ready: constraints.txt
	$(PYTHON) -m venv $(VENV)/lint
	$(VENV)/lint/bin/python -m pip --disable-pip-version-check install --quiet --constraint $< pydoclint
	touch $@

# MLflow's tracking server in an environment of its own: the test of the mirror runs where it is.
mlflow: $(VENV)/mlflow/.ready

# It needs pandas < 3: under our constraints pip would go back to a release of years ago.
$(VENV)/mlflow/.ready:
	$(PYTHON) -m venv $(VENV)/mlflow
	$(VENV)/mlflow/bin/python -m pip --disable-pip-version-check install --quiet 'mlflow>=3,<4'
	touch $@

# Evidently, which make bench-watch compares with, in an environment of its own: it needs pandas < 3.
evidently: $(VENV)/evidently/.ready

$(VENV)/evidently/.ready:
	$(PYTHON) -m venv $(VENV)/evidently
	$(VENV)/evidently/bin/python -m pip --disable-pip-version-check install --quiet evidently 'pandas<3'
	touch $@

clean:
	rm -rf $(VENV) demo-out .cache
