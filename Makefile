# The commands of the README: make demo, make check, make test. How tests are run one by one:
# docs/testing.md.

SHELL = /bin/bash
CARGO ?= cargo
BOXBUILD = target/release/boxbuild
DEMO ?= demo
AARCH64 = aarch64-unknown-linux-gnu
# Cargo says what it compiles where this is empty.
QUIET = --quiet

# What emulates a machine of this host's architecture, and of the other.
QEMU_OWN = qemu-system-x86
QEMU_OTHER = qemu-system-arm
GRUB_OWN = grub-pc-bin grub-efi-amd64-bin
ifeq ($(shell uname -m),aarch64)
QEMU_OWN = qemu-system-arm
QEMU_OTHER = qemu-system-x86
GRUB_OWN = grub-efi-arm64-bin
endif
PACKAGES_DEMO = $(QEMU_OWN) qemu-utils mmdebstrap uidmap fdisk e2fsprogs python3-pip \
	ca-certificates gcc libc6-dev make
PACKAGES_FOREIGN = $(QEMU_OTHER) qemu-user-static arch-test
PACKAGES_LAB = $(QEMU_OWN) busybox-static kmod debian-archive-keyring gcc libc6-dev make
# The lab's Arm machine, a compiler for it, and what runs its programs one by one.
PACKAGES_ARM = qemu-system-arm qemu-user kmod debian-archive-keyring binutils gcc libc6-dev make \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross cmake
PACKAGES_TEST = qemu-system-x86 qemu-system-arm qemu-utils cpio busybox-static kmod fdisk \
	e2fsprogs xz-utils debian-archive-keyring dmsetup gcc libc6-dev make mmdebstrap uidmap btrfs-progs procps \
	gpg gpgv iproute2 libxml2-utils man-db openssh-client python3 shellcheck ovmf qemu-efi-aarch64 xorriso mtools \
	grub-common $(GRUB_OWN) $(PACKAGES_PODMAN)
# podman recommends, or has alternatives for, what it needs: runc works with every mode of
# cgroups, netavark with iptables or nftables makes networks, slirp4netns those of normal users.
PACKAGES_PODMAN = podman runc netavark iptables nftables slirp4netns
# Real queues and hosts for batches (docs/runners.md). The tests start daemons of their own.
PACKAGES_RUNNERS = slurmctld slurmd slurm-client munge openssh-client openssh-server
# The second compiler is for the other architecture.
PACKAGES_DIST = python3 python3-venv binutils gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross cmake git \
	make gzip xz-utils
PACKAGES_BENCH = $(PACKAGES_LAB) qemu-utils qemu-system-common passt slirp4netns iproute2

.PHONY: toolchain-aarch64 test-arm packages-arm docs dist dist-reproduce dist-source dist-installed dist-container packages-dist demo check test test-full lint msrv unit conformance e2e e2e-arm e2e-kvm full guard baseline guard-programs bench packages-bench packages-validators boots boots-arm boots-first hostile fuzz lab release types packages-demo packages-foreign packages-runners packages-test packages-lab

# From nothing to an image: box from the host's mirror, then a build of the sample description.
demo: QUIET =
demo: packages-demo release
	tests/setup/demo $(BOXBUILD) $(DEMO)

COUNTED = tests/setup/counted $(MAKE) --no-print-directory

# The daily loop: under five minutes where all has been compiled before.
check: packages-test
	$(COUNTED) timed-lint timed-unit timed-e2e

# Everything CI runs.
test: packages-test
	$(COUNTED) timed-lint timed-msrv timed-unit timed-e2e timed-release timed-conformance timed-e2e-kvm \
	timed-boots-first timed-guard timed-test-arm

# What takes longer: a real box and a real kiwi build, and everything that can go wrong there.
test-full: export BOXBUILD_TEST_LAB = all
test-full: packages-demo packages-foreign packages-runners packages-validators test release
	BOXBUILD_TEST_KILLS=200 $(CARGO) test --package boxbuild-vmm --lib --quiet -- a_killed_writer
	BOXBUILD_TEST_KILLS=200 $(CARGO) test --package boxbuild --test boxes --quiet -- a_killed_update
	BOXBUILD_TEST_KILLS=1000 $(CARGO) test --package boxbuild-package-cache --test cache --quiet -- random_kills
	$(COUNTED) full
	$(MAKE) --no-print-directory dist dist-reproduce dist-installed dist-container
	BOXBUILD=$(BOXBUILD) BOXBUILD_ATTACK_SECONDS=600 tests/setup/counted $(E2E_TESTS) -- an_attacker_of
	BOXBUILD_SCRIBBLE_SECONDS=60 BOXBUILD_BOOTS=all tests/setup/counted $(BOOT_TESTS)
	$(MAKE) --no-print-directory hostile

# A target, and how long it took: by the clock, and of all processors.
timed-%:
	@TIMEFORMAT='time: $*: %0R s, of processors %0U s for programs and %0S s for the kernel'; \
	time $(MAKE) --no-print-directory $*

# What checks the documents of a record (tests/setup/validate-record), from the Python registry.
packages-validators:
	@test -x target/validators/bin/python || { python3 -m venv target/validators && \
	target/validators/bin/pip install --quiet spdx-tools==0.8.5 in-toto-attestation==0.9.3; } || \
	echo "skipped: validators of SPDX and in-toto: cannot be installed"

# Rust's compiler and a C compiler for aarch64: rustup's target with Debian's cross compiler, or both in
# a root of Debian, made once. Needs no root.
toolchain-aarch64:
	tests/setup/toolchain aarch64

# What is for Arm hosts, on another: everything compiles; unit tests in QEMU's user emulation; a true
# /dev/kvm in the lab's Arm machine.
test-arm: packages-arm
	tests/setup/test-arm

# Manual pages and shell completions.
docs:
	$(CARGO) build --quiet --package boxbuild
	target/debug/boxbuild generate man target/docs/man
	target/debug/boxbuild generate completions target/docs/completions

# What is published of a release: dist/ has an archive, a .deb and a .rpm for each architecture whose
# compiler is here, the installer, and the sums (RELEASING.md).
dist: packages-dist
	cli/packaging/dist

# The same once more in another folder, compared with dist/.
dist-reproduce: packages-dist
	cli/packaging/reproduce dist

# The sources for distributions, with all crates: dist/.
dist-source: packages-dist
	cli/packaging/source dist

# What is in dist/, installed and used in empty roots of distributions; PART="trixie rpm" only there.
dist-installed: packages-demo
	tests/setup/counted tests/setup/installed dist $(PART)

# boxbuild in a container, made of what is in dist/, and used as a normal user would.
dist-container: packages-test
	tests/setup/counted tests/setup/container dist

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) clippy --workspace --test e2e --test boots --test conformance --test arm --quiet -- -D warnings
	$(CARGO) run --quiet --package boxbuild-layers
	@if ! command -v shellcheck >/dev/null; then \
	echo "skipped: shellcheck: not installed (make packages-test)"; else \
	shellcheck --severity=warning $$(git grep -lE '^#!/bin/(ba)?sh' -- ':!*.rs' ':!*.md'); fi
	@if ! command -v typos >/dev/null; then \
	echo "skipped: typos: not installed (cargo install typos-cli)"; else typos; fi
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	echo "skipped: cargo deny: not installed (cargo install cargo-deny)"; else \
	$(CARGO) deny --log-level error --all-features check bans licenses sources || exit; \
	if timeout 60 $(CARGO) deny --log-level off fetch db >/dev/null 2>&1; then \
	$(CARGO) deny --log-level error --all-features check --disable-fetch advisories; \
	else echo "skipped: cargo deny, advisories: their database cannot be fetched here"; fi; fi

# With the oldest Rust that the packages name (rust-version in Cargo.toml).
msrv:
	@version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if rustup run $$version cargo --version >/dev/null 2>&1; then \
	CARGO_TARGET_DIR=target/msrv rustup run $$version cargo check --workspace --all-targets --quiet; \
	else echo "skipped: msrv: Rust $$version is not installed (rustup toolchain install $$version)"; fi

unit:
	$(CARGO) test --workspace --quiet

# Published file system tests against a share (pjdfstest, fsx).
conformance:
	$(CARGO) test --quiet --workspace --test conformance

E2E_TESTS = $(CARGO) test --quiet --workspace --test e2e
BOOT_TESTS = $(CARGO) test --quiet --workspace --test boots

# A small guest under QEMU, with the real kernel of a distribution, and containers under podman.
# TEST=NAME runs the tests whose names contain that.
e2e:
	$(E2E_TESTS) -- $(TEST)

# The same under the kvm engine: on the host's own /dev/kvm if it is a true one, else in the lab
# (docs/lab.md).
e2e-kvm: release
	BOXBUILD=$(BOXBUILD) BOXBUILD_TEST_ENGINE=kvm $(E2E_TESTS) -- $(TEST)

# The same with program and boxes of 64-bit Arm, in the lab's Arm machine; part of test-arm.
e2e-arm: packages-arm
	BOXBUILD_TEST_ARCH=aarch64 BOXBUILD_TEST_ENGINE=kvm $(E2E_TESTS) -- $(TEST)

# Real boxes and real images: half an hour and more.
full: release
	BOXBUILD=$(BOXBUILD) $(E2E_TESTS) -- --ignored $(TEST)

# The first of the distributions' own guests, in the micro-VMM.
boots-first:
	$(BOOT_TESTS)

# Instruction counts of the devices' hot paths and of a boot, against benches/baseline.json:
# over 3 % worse fails (docs/benchmarks.md, "The regression guard").
guard: guard-programs
	target/release/boxbuild-guard

# Takes today's counts as the baseline.
baseline: guard-programs
	target/release/boxbuild-guard --update

# Each by itself, so that no other package's features change what is counted.
guard-programs:
	$(CARGO) build --release --quiet --package boxbuild-vmm --example boot
	$(CARGO) build --release --quiet --package boxbuild-workloads
	$(CARGO) build --release --quiet --package boxbuild-bench-boot --package boxbuild-bench

# boxbuild and its peers side by side, in turn in one run: target/bench/report.{md,json,svg}.
# BENCH="boot block" measures only these; BENCH="--kiwi PATH build" whole builds.
bench: packages-bench guard-programs
	$(CARGO) build --release --quiet --package boxbuild-bench-virtiofs --package boxbuild-bench-block \
	--package boxbuild-bench-net
	target/release/boxbuild-bench $(BENCH)

# Every image type, one after the other: hours in emulation. ONLY="--only lvm --only uki" builds these.
TYPES ?= types
types: QUIET =
types: packages-demo release
	tests/setup/types $(BOXBUILD) $(TYPES) $(ONLY)

# All of them, as a normal user.
boots: packages-test
	BOXBUILD_SCRIBBLE_SECONDS=60 BOXBUILD_BOOTS=all tests/setup/counted $(BOOT_TESTS)

# The machine of 64-bit Arm, in the lab's (docs/vmm-arm.md); part of test-arm.
boots-arm: packages-arm
	tests/setup/counted $(CARGO) test --quiet --package boxbuild-tests --test arm

# A guest that writes garbage into all devices of the kvm engine, for so long: memory stays flat.
HOSTILE_SECONDS ?= 600
hostile:
	BOXBUILD_SCRIBBLE_SECONDS=$(HOSTILE_SECONDS) tests/setup/counted $(BOOT_TESTS) -- garbage

# What a guest can send, under libFuzzer (docs/fuzzing.md).
FUZZ_SECONDS ?= 60
fuzz:
	tests/setup/counted tests/fuzz/run $(FUZZ_SECONDS)

# The lab, a machine with a true /dev/kvm, tests itself (docs/lab.md).
lab: packages-lab packages-arm
	$(CARGO) test --quiet --package boxbuild-tests --lib
	$(CARGO) build --quiet --release --package boxbuild-tests --example kvm-selftest
	tests/setup/counted tests/lab/lab selftest target/release/examples/kvm-selftest
	@tests/setup/toolchain aarch64 >/dev/null; case $$? in \
	77) echo "skipped: the lab for aarch64: no compiler for it" ;; \
	0) tests/setup/toolchain aarch64 $(CARGO) build --quiet --release --package boxbuild-tests \
	--target $(AARCH64) --example kvm-selftest && tests/setup/counted tests/lab/lab selftest \
	--arch aarch64 target/$(AARCH64)/release/examples/kvm-selftest ;; \
	*) exit 1 ;; esac

release:
	$(CARGO) build --release $(QUIET) --package boxbuild

packages-demo:
	tests/setup/install-packages $(PACKAGES_DEMO)

packages-foreign:
	tests/setup/install-packages $(PACKAGES_FOREIGN)

packages-test:
	tests/setup/install-packages $(PACKAGES_TEST)

packages-runners:
	tests/setup/install-packages $(PACKAGES_RUNNERS)

packages-dist:
	tests/setup/install-packages $(PACKAGES_DIST)

packages-bench:
	tests/setup/install-packages $(PACKAGES_BENCH)

packages-arm:
	tests/setup/install-packages $(PACKAGES_ARM)

packages-lab:
	tests/setup/install-packages $(PACKAGES_LAB)
