# Two commands, each enough on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
PIP = $(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-fast test-processors numeric-plain numeric-avx2 test-backends test-lowest lint types linked docs clean

demo: .venv/.demo
	.venv/bin/memssl demo

# Two processes, a module at a time: where there are two cores, in half the time.
test: .venv/.test .node/.done
	.venv/bin/python -m pytest -n 2 --dist loadfile

# What a developer runs at every change: all tests that take less than about a second.
test-fast: .venv/.test
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

# Float32 rounds differently on processors without AVX2 and on those without AVX-512. Both are set here by hand, and run
# side by side on a thread each.
test-processors: .venv/.test
	$(MAKE) --jobs 2 --output-sync numeric-plain numeric-avx2

NUMERIC = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m numeric $$(grep -rl --include='*.py' mark.numeric tests)

numeric-plain:
	ATEN_CPU_CAPABILITY=default $(NUMERIC)

numeric-avx2:
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell $(NUMERIC)

# The encoder on JAX and TensorFlow, in an environment of their own, against the torch features.
test-backends: .venv/.test .venv-backends/.done
	MEMSSL_BACKENDS_PYTHON=.venv-backends/bin/python .venv/bin/python -m pytest tests/encoders/test_backends.py

# The fast tests with the lowest versions that pyproject.toml allows. The default build of torch is gigabytes.
test-lowest: .venv-lowest/.done
	PATH=$(CURDIR)/.venv-lowest/bin:$$PATH .venv-lowest/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: .venv/.test types
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

# The package as it is installed, with export, zoo and demo inside, for what reads it without importing it.
linked:
	rm -rf .types && mkdir -p .types/memssl_keras
	ln -s $(CURDIR)/memssl_keras/* $(CURDIR)/export $(CURDIR)/zoo $(CURDIR)/demo .types/memssl_keras/

types: .venv/.test linked
	cd .types && ../.venv/bin/python -m mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p memssl_keras

# The documentation as a site in build/docs; a broken link or a name that is not there fails.
docs: .venv/.docs linked
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet --site-dir build/docs

.venv/.docs: pyproject.toml constraints.txt | .venv/bin/python
	$(call PIP,.venv) --editable '.[docs]'
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(call PIP,.venv) --editable '.[demo]'
	touch $@

.venv/.test: pyproject.toml constraints.txt | .venv/bin/python
	$(call PIP,.venv) torch
	$(call PIP,.venv) --editable '.[test]'
	# Readers in tests, apart from what users import: torchvision's wheel does not run beside every build of torch.
	$(call PIP,.venv) --no-deps --upgrade --target .readers timm torchvision fastembed loguru mmh3 py-rust-stemmers
	touch $@ .venv/.demo

# What tests run under Node and in the browser, where npm is; no binary beside the one in onnxruntime-node's package.
.node/.done:
	mkdir -p .node
	if command -v npm >/dev/null; then cd .node && ONNXRUNTIME_NODE_INSTALL=skip \
		npm install --silent --no-audit --no-fund --prefix . @huggingface/transformers@4.3.1 \
		onnxruntime-node@1.30.0 onnxruntime-web@1.30.0 sharp@0.35.5; fi
	touch $@

.venv-backends/.done: constraints.txt
	$(PYTHON) -m venv .venv-backends
	$(call PIP,.venv-backends) keras jax tensorflow-cpu pillow
	touch $@

.venv-lowest/.done: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	sed -nE 's/^ *"([a-z-]+)(\[[a-z]+\])?>=([0-9.]+)",?.*/\1==\3.*/p' pyproject.toml | grep -v setuptools >.venv-lowest/versions.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-lowest/versions.txt \
		--editable '.[all]' pytest pytest-xdist transformers
	touch $@

clean:
	rm -rf .venv .venv-backends .venv-lowest .types .node .readers build dist *.egg-info
