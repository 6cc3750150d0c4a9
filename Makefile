# Every verb does its own set-up; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
UV_VERSION := 0.13.9
# Workers, each with a Ceph of its own; one more than cores, for tests wait, too. A file's tests share
# a pool and drivers, so they stay together, and the order of files is that of tests/conftest.py.
WORKERS := $(shell expr $$(nproc) + 1)
PARALLEL := --numprocesses $(WORKERS) --maxprocesses 5 --dist loadfile --no-loadscope-reorder
ON_KUBERNETES := tests/kubernetes tests/integration/test_sidecars.py tests/integration/test_metadata_sidecar.py
# With it every start of the driver compiles the driver.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# The virtual environment sees Debian's python3-rados and python3-rbd, so it is made of Debian's Python.
.tools/uv-$(UV_VERSION): tools/packages.sh
	tools/packages.sh
	rm -rf .tools && /usr/bin/python3 -m venv .tools
	.tools/bin/pip install --quiet uv==$(UV_VERSION)
	touch $@

.venv/installed: .tools/uv-$(UV_VERSION) requirements.lock
	.tools/bin/uv venv --quiet --clear --no-project --python /usr/bin/python3 --system-site-packages .venv
	.tools/bin/uv pip install --quiet --compile-bytecode --python $(PYTHON) --require-hashes \
	  -r requirements.lock
	touch $@

# The editable install runs hatch_build.py, which compiles the interface.
.venv/bin/rbdcsi: .venv/installed pyproject.toml hatch_build.py proto/csi.proto
	.tools/bin/uv pip install --quiet --python $(PYTHON) --no-deps --editable .
	touch $@

setup: .venv/bin/rbdcsi ## install Debian packages and the virtual environment

demo: .venv/bin/rbdcsi ## move a volume, with a file on it, from one node to another
	@$(PYTHON) -m e2e.demo

# Programs of the image run in mount namespaces, which copy the mounts of other tests and so keep
# their devices busy: its tests run by themselves.
test: .venv/bin/rbdcsi ## run every test but those in virtual machines: unit, integration, csi-sanity, chart, image, lint
	@tools/packages.sh buildah debootstrap
	$(PYTHON) -m pytest $(PARALLEL) -m "not vm and not kubernetes and not image and not long"
	$(PYTHON) -m pytest -m image

test-again: # those of `test` that failed, alone, then what it had left
	$(PYTHON) -m pytest --last-failed -m "not vm and not kubernetes and not long"
	$(PYTHON) -m pytest -m image

test-vm: .venv/bin/rbdcsi ## run the tests of krbd and nbd, on real kernels in virtual machines
	@tools/packages.sh checkpolicy
	$(PYTHON) -m pytest -m vm tests/vm

smoke-vm: .venv/bin/rbdcsi ## run the smoke tests of virtual machines, with SHARD=name those of a shard, too
	@tools/packages.sh checkpolicy
	$(PYTHON) -m pytest -p tests.shards --shard="$(SHARD)" -m vm tests/vm

packages: # what any target needs: two that install at once would meet at dpkg's lock
	@tools/packages.sh checkpolicy $(KUBERNETES_PACKAGES)

check: setup packages ## run what has to pass before a change lands: half an hour, with nothing built an hour
	@$(PYTHON) -m tools.check

test-long: .venv/bin/rbdcsi ## run the tests that look for what is rare, for half an hour
	$(PYTHON) -m pytest $(PARALLEL) -m "long and not vm and not kubernetes"

test-unit: .venv/bin/rbdcsi ## run the tests that need no Ceph
	$(PYTHON) -m pytest -m "not ceph" $(PARALLEL) tests/unit

test-integration: .venv/bin/rbdcsi ## run the tests that need a Ceph, but csi-sanity and the image
	$(PYTHON) -m pytest -m "not image and not long" $(PARALLEL) tests/integration --ignore tests/integration/test_sanity.py

sanity: .venv/bin/rbdcsi ## run csi-sanity, the public conformance test
	$(PYTHON) -m pytest tests/integration/test_sanity.py

test-deploy: .venv/bin/rbdcsi ## check the chart, the manifests, the examples and the workflows
	$(PYTHON) -m pytest tests/deploy

# The snap's own Ceph; on a throw-away machine only.
e2e-microceph: .venv/bin/rbdcsi ## run integration tests and csi-sanity on the MicroCeph of this machine
	RBDCSI_TEST_CLUSTER=microceph $(PYTHON) -m pytest tests/integration/test_main_job.py \
	  tests/integration/controller/test_create.py tests/integration/controller/test_attach.py \
	  tests/integration/node/test_stage.py tests/integration/node/test_publish.py \
	  tests/integration/test_sanity.py

# The driver of the image (Ceph 18) on a cluster of this machine's Ceph (16).
test-image: .venv/bin/rbdcsi ## run tests of the image, and tests of the driver from inside it
	@tools/packages.sh buildah debootstrap
	$(PYTHON) -m pytest -m image
	RBDCSI_TEST_DRIVER=image $(PYTHON) -m pytest tests/integration/test_main_job.py \
	  tests/integration/controller/test_create.py tests/integration/controller/test_attach.py \
	  tests/integration/node/test_stage.py tests/integration/node/test_publish.py \
	  tests/integration/node/test_block.py tests/integration/node/test_readonly.py \
	  tests/integration/node/test_container_end.py

lint: .venv/bin/rbdcsi ## check style, types and the direction of imports
	$(PYTHON) -m pytest -q tests/unit/test_lint.py tests/unit/test_layers.py

bench: .venv/bin/rbdcsi ## measure the driver beside the floor, and print the ratios
	$(PYTHON) -m bench

bench-scale: .venv/bin/rbdcsi ## measure what calls cost beside 1,000, 10,000 and 100,000 volumes
	$(PYTHON) -m bench.scale

bench-rounds: .venv/bin/rbdcsi ## time a thousand snapshots, and a thousand copies of copies
	$(PYTHON) -m bench.rounds

bench-vm: .venv/bin/rbdcsi ## measure the mount path and the data path with krbd, in a virtual machine
	$(PYTHON) -m bench --machine

failover: .venv/bin/rbdcsi ## move volumes from nodes that fail, 20 times in each way, beside the move by hand: hours
	$(PYTHON) -m e2e.failover --times 20

SECONDS := 600
random-walk: .venv/bin/rbdcsi ## call drivers at random and kill them for SECONDS (600), and look for broken rules
	$(PYTHON) -m e2e.walk $(SECONDS)

lock: .tools/uv-$(UV_VERSION) ## pin the Python dependencies (both requirements*.lock)
	.tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	.tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command "make lock" -c requirements.lock pyproject.toml \
	  -o requirements-runtime.lock

image: .venv/bin/rbdcsi ## build the driver's image from the Dockerfile, and say how large it is
	@tools/packages.sh buildah debootstrap
	@$(PYTHON) -m e2e.release.image

manifests: .venv/bin/rbdcsi ## render the plain manifests from the chart
	@$(PYTHON) -m e2e.release.manifests

test-docs: .venv/bin/rbdcsi ## check the documents: commands, examples, generated tables, links of the site
	$(PYTHON) -m pytest tests/docs

docs: .venv/bin/rbdcsi ## write the generated tables of docs/ and of the chart's README
	@$(PYTHON) -m tools.reference

docs-site: .venv/bin/rbdcsi ## build the documents as a site in site/, with links checked
	.venv/bin/zensical build --clean --strict

cluster: .venv/bin/rbdcsi ## start a one-OSD Ceph to play with, and say how
	@$(PYTHON) -m e2e.clusters start

cluster-stop: .venv/bin/rbdcsi ## end it
	@$(PYTHON) -m e2e.clusters stop

KUBERNETES_PACKAGES := buildah containerd containernetworking-plugins debootstrap dropbear-bin \
  etcd-server gcc libc6-dev openssh-client openssl runc

kubernetes: .venv/bin/rbdcsi ## start a Kubernetes with the driver to play with, and say how
	@tools/packages.sh $(KUBERNETES_PACKAGES)
	@$(PYTHON) -m e2e.kubernetes start

kubernetes-stop: .venv/bin/rbdcsi ## end it
	@$(PYTHON) -m e2e.kubernetes stop

# A Kubernetes that is there needs no containerd of ours, which would take the place of its own.
prepare-kubernetes: .venv/bin/rbdcsi ## build what tests on Kubernetes run, with PREPARE=suite its own tests, too
	@tools/packages.sh $(if $(KUBECONFIG),,$(KUBERNETES_PACKAGES))
	@$(PYTHON) -m e2e.kubernetes.prepare $(PREPARE)

smoke-kubernetes: prepare-kubernetes ## run the smoke tests on Kubernetes, with SHARD=name those of a shard, too
	$(PYTHON) -m pytest -p tests.shards --shard="$(SHARD)" -m kubernetes $(ON_KUBERNETES)

e2e-kubernetes: PREPARE = suite
e2e-kubernetes: prepare-kubernetes ## run all but the longest tests on a Kubernetes (KUBECONFIG's, or one of their own)
	$(PYTHON) -m pytest -m "kubernetes and not long" $(ON_KUBERNETES)

# In place of the suite's chosen specs all of them.
e2e-long: PREPARE = suite
e2e-long: test-long test-vm prepare-kubernetes ## run every test of Kubernetes and in virtual machines: hours
	$(PYTHON) -m pytest -m kubernetes $(ON_KUBERNETES) \
	  --deselect tests/kubernetes/test_suite.py::test_the_chosen_specs_pass

clean: ## remove what was built or installed here (not the Debian packages)
	rm -rf .venv .tools .cache build site rbdcsi/api/csi_pb2*

.PHONY: bench bench-rounds bench-scale bench-vm check clean cluster cluster-stop demo docs docs-site \
  e2e-kubernetes e2e-long e2e-microceph failover help image kubernetes kubernetes-stop lint lock manifests packages \
  prepare-kubernetes random-walk sanity setup smoke-kubernetes smoke-vm test test-again test-deploy test-docs test-image test-long \
  test-integration test-unit test-vm
