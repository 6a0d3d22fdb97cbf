# Every target does all of its own set-up: `make demo` and `make test` work on a bare machine with python3, git and make.
.PHONY: help demo test test-all test-gpu torture check format setup setup-dev install uninstall clean
SCENE ?=
PREFIX ?= /opt/sarwater

# One process per part, as in use: no user's process holds PyTorch, OpenVINO, ONNX Runtime, TensorRT and two builds of HDF5 at once.
PARTS = tests/sarwater tests/test_*.py tests/runtime tests/export tests/train tests/benchmarks tests/torture
each_part = failed=0; for part in $(PARTS); do .venv-dev/bin/python -m pytest -m "$(1)" $$part $(PYTEST) || failed=1; done; exit $$failed

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

demo: setup      ## a scene becomes a water mask: the bundled simulated one, or `make demo SCENE=path`
	@.venv/bin/python demo/run.py $(SCENE)

test: setup-dev  ## every test that needs no GPU
	@$(call each_part,not gpu and not slow)

test-all: setup-dev  ## the slow ones, too
	@$(call each_part,not gpu)

test-gpu: setup-dev  ## what needs an NVIDIA GPU
	.venv-dev/bin/python -m pytest -m gpu tests/gpu $(PYTEST)

torture: setup-dev  ## all sixteen faults against the daemon, with the full counts (hours)
	.venv-dev/bin/python -m tests.torture.run $(TORTURE)

check: setup-dev ## format, lint, types
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/ruff check .
	.venv-dev/bin/mypy

format: setup-dev  ## rewrite the code in the project's format
	.venv-dev/bin/ruff format .
	.venv-dev/bin/ruff check --fix .

setup: .venv/ready          ## .venv with the runtime alone
setup-dev: .venv-dev/ready  ## .venv-dev with everything

.venv/ready: pyproject.toml environment.sh
	@./environment.sh .venv

.venv-dev/ready: pyproject.toml environment.sh
	@./environment.sh .venv-dev dev

install: install-files  ## the daemon as a systemd service: program in /opt/sarwater, units, settings, account
	@if [ -n "$(DESTDIR)" ]; then \
	    python3 -m pip install --quiet --no-deps --root="$(DESTDIR)" --prefix="$(PREFIX)" .; \
	else \
	    ./environment.sh "$(PREFIX)" && "$(PREFIX)/bin/pip" install --quiet --no-deps --force-reinstall . && \
	    systemd-sysusers sarwater.conf && systemd-tmpfiles --create sarwater.conf && systemctl daemon-reload; \
	fi

install-files:
	install -D -m 644 -t "$(DESTDIR)/etc/systemd/system" systemd/*.service
	install -D -m 644 systemd/sarwater.sysusers "$(DESTDIR)/usr/lib/sysusers.d/sarwater.conf"
	install -D -m 644 systemd/sarwater.tmpfiles "$(DESTDIR)/usr/lib/tmpfiles.d/sarwater.conf"
	install -D -m 644 systemd/sarwater.logrotate "$(DESTDIR)/etc/logrotate.d/sarwater"
	install -D -m 644 -t "$(DESTDIR)/usr/local/share/doc/sarwater" systemd/README.md systemd/*.conf
	install -D -m 644 -t "$(DESTDIR)/usr/local/share/doc/sarwater/monitoring" systemd/monitoring/*
	@for file in watch.toml sarwater.env; do \
	    [ -e "$(DESTDIR)/etc/sarwater/$$file" ] || install -D -m 644 "systemd/$$file" "$(DESTDIR)/etc/sarwater/$$file"; \
	done

uninstall:       ## all but settings, scenes and masks
	@[ -n "$(DESTDIR)" ] || systemctl disable --now sarwater-watch sarwater-build-engine || true
	@for unit in $(notdir $(wildcard systemd/*.service)); do rm -f "$(DESTDIR)/etc/systemd/system/$$unit"; done
	rm -f "$(DESTDIR)/usr/lib/sysusers.d/sarwater.conf" "$(DESTDIR)/usr/lib/tmpfiles.d/sarwater.conf" "$(DESTDIR)/etc/logrotate.d/sarwater"
	rm -rf "$(DESTDIR)/usr/local/share/doc/sarwater" "$(DESTDIR)$(PREFIX)"

clean:           ## remove the environments and what the demo wrote
	rm -rf .venv .venv-dev demo/out
