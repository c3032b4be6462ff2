# make            build the library, the command and the manual pages, and show this
# make check      every test; asks before it installs the tools it lacks (ASSUME_YES=1 or CI=true: without a question); target takes 2.5 GB
# make check-debian13   the two commands of the README in a clean Debian 13, as a user and as root; needs root and Debian's mirror
# make check-slow   what needs a virtual machine; downloads QEMU and a kernel, installs neither
# make check-vm     LVM, md, dm-crypt, nbd, real SCSI and IDE disks, in a virtual machine
# make demo       an image turns into a SCSI and an IDE disk before your eyes
# make bench      what the library and the supervisor cost
# make bench-vm     the same on real devices and beside the kernel's SCSI targets, in a virtual machine
# make conformance  libiscsi's tests of the SCSI commands on listed devices, with both engines or ENGINE
# make fuzz         libFuzzer looks for input that breaks the disk, for SECONDS (60) a target; SEED repeats a run
# make manual     write the commands, usages and options of the command line into the pages of man/
# make packages   a .deb and an .rpm of what `make all` built, in target/packages
# make install    as root: see the variables in the Makefile; `make uninstall`, given the same ones, removes it again

# Where things go. DESTDIR is put before each of them.
PREFIX = /usr
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
# A directory that the dynamic loader trusts in set-user-ID programs. Empty: LOADER is asked; DESTDIR's, where it has one.
LIBDIR =
# Where zsh looks for completions. Empty: the distribution's directory.
ZSHDIR =
# The dynamic loader to ask. Empty: the running system's.
LOADER =
# no: the library does not get the set-user-ID bit, so set-user-ID programs cannot use it.
SETUID = yes
# What takes the symbols out of what is installed. Empty: nothing.
STRIP = strip
# Who answers for the packages: NAME <ADDRESS>. Empty: the authors.
MAINTAINER =

CARGO = cargo
CARGO_TARGET_DIR ?= target
MANUAL = $(patsubst man/%.md,%,$(wildcard man/*.md))
SHELLS = bash fish zsh

export PREFIX BINDIR MANDIR LIBDIR ZSHDIR LOADER SETUID STRIP DESTDIR CARGO CARGO_TARGET_DIR MAINTAINER

# make's rules, LD_PRELOAD and VMWARE_BDWRAPPER_DEVICES cannot hold a name with a blank or colon.
divided = $(word 2,x$(1)x)$(findstring :,$(1))
ifneq ($(call divided,$(CARGO_TARGET_DIR)),)
$(error CARGO_TARGET_DIR=$(CARGO_TARGET_DIR) has a blank or colon in its name: build in another directory)
endif
ifneq ($(call divided,$(CURDIR)),)
ifneq ($(filter check% demo conformance,$(MAKECMDGOALS)),)
$(error $(CURDIR) has a blank or colon in its name: move the sources to another directory)
endif
endif

# Without a target: to build is what scripts expect of it, and to show what there is what people do.
default: all help

# What stands at the beginning of this file.
help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

all: build $(MANUAL:%=$(CARGO_TARGET_DIR)/man/%) $(SHELLS:%=$(CARGO_TARGET_DIR)/completions/%)

rust:
	@scripts/rust

# doctor warns of a library that a group may write, as Debian's umask for users, 002, would have it.
build: rust
	umask 022 && $(CARGO) build --release --locked

$(CARGO_TARGET_DIR)/man/%: man/%.md scripts/man Cargo.toml
	@mkdir -p $(@D)
	scripts/man $< > $@.$$$$ && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

$(CARGO_TARGET_DIR)/completions/%: build
	@mkdir -p $(@D)
	@$(CARGO_TARGET_DIR)/release/vmware-bdwrapper completions $* > $@.$$$$ && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

check: all
	scripts/deps
	shellcheck scripts/*
	scripts/layers
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/check-aarch64
	scripts/fuzz corpus
	scripts/test
	scripts/platforms >$(CARGO_TARGET_DIR)/platform-$$(id -u)

# Builds in there.
check-debian13: rust
	scripts/deps mmdebstrap
	scripts/debian13

# None of what `cargo test` and clippy find by themselves. As root nothing may be left out for want of a right or a tool.
check-slow: all
	scripts/deps
	scripts/guest
	$(CARGO) clippy -p acceptance --test hypervisor -- -D warnings
	if [ "$$(id -u)" = 0 ]; then CI=true; export CI; fi; $(CARGO) test -p acceptance --test hypervisor

# On real devices of every kind, in a virtual machine. The first `cargo test` builds what the machine runs.
check-vm: all
	scripts/deps
	scripts/guest
	scripts/conformance fetch
	$(CARGO) clippy -p acceptance --test devices --test crash -- -D warnings
	$(CARGO) test -p acceptance --no-run
	$(CARGO) test -p acceptance --test devices --test crash

demo: all
	scripts/demo

bench: all
	scripts/bench

bench-vm: all
	scripts/deps
	scripts/guest
	scripts/bench-vm

conformance: all
	scripts/conformance $(if $(ENGINE),--engine $(ENGINE))

# The same test as in `make check`, which otherwise fails if a page is out of date.
manual: rust
	BDWRAPPER_WRITE_MANUAL=1 $(CARGO) test -p vmware-bdwrapper --locked manual::pages_are_up_to_date

# Builds what it needs by itself, instrumented.
fuzz: rust
	@scripts/fuzz $(or $(SECONDS),60) $(SEED)

packages: all
	scripts/deps dpkg-deb rpmbuild
	@scripts/packages

# Neither builds: root often has no cargo.
install uninstall:
	@scripts/install $@

clean:
	$(CARGO) clean

.PHONY: default help all rust build check check-debian13 check-slow check-vm demo bench bench-vm conformance fuzz manual packages install uninstall clean
