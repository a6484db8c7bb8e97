# Lorikeet. `make demo` and `make test` need Python 3.11+, make and a C compiler; nothing else.
#
#   PYTHON            the interpreter the virtual environment is made with
#   TORCH_CPU_INDEX   where pip finds PyTorch's CPU build (see README); empty: pip's own index.
#                     Not used on a machine with an NVIDIA GPU, which gets the CUDA build.

PYTHON ?= python3
TORCH_CPU_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
HAS_GPU := $(shell nvidia-smi -L 2>/dev/null)
TORCH_INDEX := $(if $(HAS_GPU),,$(if $(TORCH_CPU_INDEX),--index-url $(TORCH_CPU_INDEX)))

.PHONY: demo serve evaluate test test-integration test-chaos test-gpu bench lint protos protos-check format secrets install install-dev clean

demo: $(VENV)/.installed  ## Register three adapters and stream from all of them at once
	@$(BIN)/python -m examples.demo

serve: $(VENV)/.installed  ## The same services, left running for you
	@$(BIN)/python -m examples.demo --keep-running

evaluate: $(VENV)/.installed  ## Exact match of every demo adapter on every held-out set
	@$(BIN)/python -m examples.demo.evaluate

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

# Two PostgreSQL and an S3 server are started for it; see tests/servers.
test-integration: $(VENV)/.installed-dev  ## The registry on real servers: every test, kills and outages
	$(BIN)/python -m pytest -s tests/integration
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target \
	    registry-on-postgres15-s3 registry-on-postgres18-s3-tls

registry-on-%: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/registry --backend $*

test-chaos: $(VENV)/.installed-dev  ## The services under kills, stalls, cancels and restarts; prints what held
	$(BIN)/python -m pytest -s tests/chaos

test-gpu: $(VENV)/.installed-dev  ## The tests that need an NVIDIA GPU; they fail where there is none
	TRITON_INTERPRET=0 $(BIN)/python -m pytest tests/gpu

# Nothing else should run meanwhile. Beside other engines, and all the rest: benchmarks/README.md.
BENCH := .lorikeet/bench
bench: $(VENV)/.installed-bench  ## The engine and the CPU kernels, in six minutes; JSON in .lorikeet/bench
	@mkdir -p $(BENCH)
	$(BIN)/python -m benchmarks.engines --rounds 2 --output $(BENCH)/engines.json
	@set -e; for name in decode base_gemm lora_cpu attention_cpu sampling; do \
	    echo "python -m benchmarks.$$name --json > $(BENCH)/$$name.json"; \
	    $(BIN)/python -m benchmarks.$$name --json > $(BENCH)/$$name.json; \
	done
	@ls $(BENCH)/*.json

lint: $(VENV)/.installed-dev protos-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

secrets:  ## Passwords and certificates for docker-compose.yml, in deploy/secrets; what is there stays
	@deploy/secrets.sh

protos: $(VENV)/.installed-dev  ## Regenerate the checked-in gRPC code and the API reference
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. protos/*.proto
	$(BIN)/python -m protos.reference docs/api

protos-check: $(VENV)/.installed-dev  ## Fail when gRPC code or API reference are not what the protos give
	@fresh=$$(mktemp -d) && trap 'rm -r "$$fresh"' EXIT && \
	$(BIN)/python -m grpc_tools.protoc -I . --python_out="$$fresh" --pyi_out="$$fresh" \
	    --grpc_python_out="$$fresh" protos/*.proto && \
	$(BIN)/python -m protos.reference "$$fresh/docs/api" && \
	(cd "$$fresh" && find . -type f) | while read -r file; do \
	    cmp "$$fresh/$$file" "$$file" || { echo "run 'make protos'"; exit 1; }; \
	done

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch ($(if $(HAS_GPU),CUDA,CPU)) and the other dependencies: about a minute."
	@$(PIP) $(TORCH_INDEX) torch
	@$(PIP) --editable ".[inference]"
	@$(BIN)/python -m kernels.cpu.build --if-possible
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@$(PIP) --editable ".[inference,bench]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) --editable ".[inference,telemetry,bench,dev]"
	@touch $@

clean:
	rm -rf $(VENV) .lorikeet .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
