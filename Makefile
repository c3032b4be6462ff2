# make            build the library, the command and the manual pages
# make check      every test (asks for missing tools first)
# make demo       an image turns into a SCSI and an IDE disk before your eyes
# make bench      what the library costs
# make install    as root: see the variables below; `make uninstall` takes it all away again

# Where things go. DESTDIR is put before each of them.
PREFIX = /usr
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
SYSCONFDIR = /etc
# A directory that the dynamic loader trusts in set-user-ID programs. Empty: LOADER is asked; DESTDIR's, where it has one.
LIBDIR =
# The dynamic loader to ask. Empty: the running system's.
LOADER =
# no: the library does not get the set-user-ID bit, so set-user-ID programs cannot use it.
SETUID = yes

CARGO = cargo
CARGO_TARGET_DIR ?= target
MANUAL = vmware-bdwrapper.1 libvmware-bdwrapper.7 vmware-bdwrapper.conf.5

export PREFIX BINDIR MANDIR SYSCONFDIR LIBDIR LOADER SETUID DESTDIR CARGO CARGO_TARGET_DIR

all: build $(MANUAL:%=$(CARGO_TARGET_DIR)/man/%)

build:
	$(CARGO) build --release

$(CARGO_TARGET_DIR)/man/%: man/%.md scripts/man Cargo.toml
	@mkdir -p $(@D)
	scripts/man $< > $@.tmp
	mv $@.tmp $@

# As root nothing may be left out for want of a right or a tool: CI=true turns that into a failure.
check: all
	scripts/deps
	shellcheck scripts/*
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/check-aarch64
	if [ "$$(id -u)" = 0 ]; then CI=true; export CI; fi; $(CARGO) test --workspace

demo: all
	scripts/demo

bench: all
	scripts/bench

# Neither builds: root often has no cargo.
install uninstall:
	@scripts/install $@

clean:
	$(CARGO) clean

.PHONY: all build check demo bench install uninstall clean
