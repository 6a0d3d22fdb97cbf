# Every target does all of its own set-up: `make demo` and `make test` work on a bare machine with python3, git and make.
.PHONY: help demo test test-all test-gpu torture check format lock docs docs-check site deb setup setup-dev install uninstall clean
SCENE ?=
PREFIX ?= /opt/sarwater
BIN ?= /usr/local/bin
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' sarwater/__init__.py)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
# What an installation is called: those before it stay beside it, to go back to.
RELEASE ?= $(VERSION)$(COMMIT:%=-%)
release = $(PREFIX)/releases/$(RELEASE)
UNITS ?= /etc/systemd/system
DOCS ?= /usr/local/share/doc/sarwater

# Two workers, each with one file of tests at a time. `make test PYTEST='-n 0 tests/runtime -x'` for something else.
WORKERS ?= 2
# `make test COVERAGE='--cov --cov-report=term:skip-covered'` ends with what share of the lines ran; a tenth to a third longer.
COVERAGE ?=
# A test process that dies ends the run: going on without its tests would wait for ever.
run_tests = .venv-dev/bin/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --max-worker-restart=0

# One file for Python 3.10 to 3.13 on every platform.
compile = .venv-dev/bin/uv pip compile pyproject.toml --quiet --universal --python-version=3.10 --no-python-downloads \
    --generate-hashes --upgrade --no-emit-package=torch --no-annotate --custom-compile-command="make lock"

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

demo: setup      ## a scene becomes a water mask: the bundled simulated one, or `make demo SCENE=path`
	@.venv/bin/python demo/run.py $(SCENE)

test: setup-dev  ## every test that needs no GPU and takes no minutes
	$(run_tests) $(COVERAGE) -m "not gpu and not slow" $(PYTEST)

test-all: setup-dev  ## the slow ones, too
	$(run_tests) -m "not gpu" $(PYTEST)

test-gpu: setup-dev  ## what needs an NVIDIA GPU
	.venv-dev/bin/python -m pytest -m gpu tests/gpu $(PYTEST)

torture: setup-dev  ## 20,000 damaged files, an archive of 10,000 scenes, then all twenty-one faults against the daemon (hours)
	.venv-dev/bin/python -m tests.torture.mutating 20000 --seed "$$(date +%s)"
	.venv-dev/bin/python -m tests.torture.archive 10000 300
	.venv-dev/bin/python -m tests.torture.run $(TORTURE)

check: setup-dev ## format, lint, types
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/ruff check .
	.venv-dev/bin/mypy

format: setup-dev  ## rewrite the code in the project's format
	.venv-dev/bin/ruff format .
	.venv-dev/bin/ruff check --fix .

lock: setup-dev  ## renew requirements/: the newest versions that pyproject.toml allows, with their hashes
	$(compile) --extra=dev --output-file=requirements/dev.txt
	$(compile) --constraint=requirements/dev.txt --output-file=requirements/runtime.txt

docs: setup-dev  ## renew the table of docs/products.md
	.venv-dev/bin/python -m sarwater.scenes.readers.table docs/products.md

docs-check: setup-dev  ## what the pages say to type, with what takes minutes, and that the site links and shows all of it
	$(run_tests) tests/docs $(PYTEST)

site: setup-dev  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 .venv-dev/bin/python -m mkdocs build --strict

deb:             ## a Debian package for this machine's Debian or Ubuntu, in dist/
	packaging/debian/build.sh dist

setup: .venv/ready          ## .venv with the runtime alone
setup-dev: .venv-dev/ready  ## .venv-dev with everything

.venv/ready: pyproject.toml environment.sh requirements/runtime.txt
	@./environment.sh .venv

.venv-dev/ready: pyproject.toml environment.sh requirements/dev.txt
	@./environment.sh .venv-dev dev

install: install-files  ## the daemon as a systemd service: program in /opt/sarwater/releases, units, settings, account
	./environment.sh "$(DESTDIR)$(release)" && "$(DESTDIR)$(release)/bin/python" -m pip install --quiet --no-deps --force-reinstall .
	@if [ -n "$(DESTDIR)" ]; then \
	    grep --files-with-matches --recursive --binary-files=without-match "$(DESTDIR)$(release)" "$(DESTDIR)$(release)/bin" "$(DESTDIR)$(release)/pyvenv.cfg" | \
	        xargs --no-run-if-empty sed -i "s|$(DESTDIR)$(release)|$(release)|g"; \
	else \
	    systemd-sysusers sarwater.conf && systemd-tmpfiles --create sarwater.conf && systemctl daemon-reload; \
	fi
	@mkdir -p "$(DESTDIR)$(BIN)"
	ln -sfnT "releases/$(RELEASE)" "$(DESTDIR)$(PREFIX)/current"
	ln -sfnT "$(PREFIX)/current/bin/sarwater" "$(DESTDIR)$(BIN)/sarwater"

install-files:
	install -D -m 644 -t "$(DESTDIR)$(UNITS)" systemd/*.service
	install -D -m 644 systemd/sarwater.sysusers "$(DESTDIR)/usr/lib/sysusers.d/sarwater.conf"
	install -D -m 644 systemd/sarwater.tmpfiles "$(DESTDIR)/usr/lib/tmpfiles.d/sarwater.conf"
	install -D -m 644 systemd/sarwater.logrotate "$(DESTDIR)/etc/logrotate.d/sarwater"
	install -D -m 644 -t "$(DESTDIR)$(DOCS)" systemd/README.md systemd/*.conf
	install -D -m 644 -t "$(DESTDIR)$(DOCS)/monitoring" systemd/monitoring/*
	@for file in watch.toml sarwater.env; do \
	    [ -e "$(DESTDIR)/etc/sarwater/$$file" ] || install -D -m 644 "systemd/$$file" "$(DESTDIR)/etc/sarwater/$$file"; \
	done

uninstall:       ## all but settings, scenes and masks
	@[ -n "$(DESTDIR)" ] || systemctl disable --now sarwater-watch sarwater-build-engine || true
	@for unit in $(notdir $(wildcard systemd/*.service)); do rm -f "$(DESTDIR)$(UNITS)/$$unit"; done
	rm -f "$(DESTDIR)/usr/lib/sysusers.d/sarwater.conf" "$(DESTDIR)/usr/lib/tmpfiles.d/sarwater.conf" "$(DESTDIR)/etc/logrotate.d/sarwater"
	rm -rf "$(DESTDIR)$(DOCS)" "$(DESTDIR)$(PREFIX)"
	rm -f "$(DESTDIR)$(BIN)/sarwater"

clean:           ## remove the environments and what the demo wrote
	rm -rf .venv .venv-dev demo/out site
