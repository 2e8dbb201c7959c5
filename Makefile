# pg_tenancy: build with PGXS.  "make demo" and "make test" are the two commands
# to know; "make help" lists the others.

# The floors of src/, from the ground up: the order of the install script and the
# include rule (a file includes its own folder and those to the left of it).
# PGXS has a MODULES of its own with another meaning, hence the name.
FLOORS = core shmem catalog context crypto job tenant meter usage limit resource domain price subscription ledger credit billing payment revenue workflow privacy observe backup provision worker hook

EXTENSION = pg_tenancy
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" pg_tenancy.control)
MODULE_big = pg_tenancy
OBJS = src/init.o $(patsubst %.c,%.o,$(foreach floor,$(FLOORS),$(sort $(wildcard src/$(floor)/*.c))))

SCRIPT = pg_tenancy--$(EXTVERSION).sql
FRAGMENTS = src/install.sql \
	$(foreach floor,$(FLOORS),$(wildcard src/$(floor)/schema.sql) $(wildcard src/$(floor)/api.sql)) \
	src/finish.sql
DATA_built = $(SCRIPT)

# PostgreSQL 15 leaves PGDLLEXPORT empty on Linux; what is not marked stays hidden.
PG_CPPFLAGS = -Isrc -MMD -MP -DPGDLLEXPORT='__attribute__((visibility("default")))'
# A call goes straight through the table of addresses, without a stub of its own on another line.
PG_CFLAGS = -std=gnu11 -fvisibility=hidden -fno-plt $(WERROR)
SHLIB_LINK = -lsodium
EXTRA_CLEAN = $(OBJS:.o=.d) $(SCRIPT) build src/http.o src/http.d src/door.o src/door.d $(LIBRARIES)

# What delivers webhooks is a library of its own, so that no session carries libcurl.  Where
# libcurl is not installed there are no webhooks.
HTTP := $(if $(wildcard /usr/include/curl/curl.h /usr/include/*/curl/curl.h),pg_tenancy_http.so)

# So is the door, which is an HTTP server: it takes libmicrohttpd.
DOOR := $(if $(wildcard /usr/include/microhttpd.h /usr/include/*/microhttpd.h),pg_tenancy_door.so)
LIBRARIES = $(HTTP) $(DOOR)

REGRESS = $(sort $(basename $(notdir $(wildcard sql/*.sql))))
REGRESS_OPTS = --load-extension=pg_tenancy

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(wildcard $(PGXS)),)
# No bitcode: nothing here is worth inlining into a JIT-compiled expression.
override with_llvm = no
include $(PGXS)
else
# The goals below install PostgreSQL first and then call make again.
all install installcheck clean:
	@echo "PostgreSQL's pg_config is missing: run \"make setup\"" >&2; exit 1
endif

-include $(OBJS:.o=.d) src/http.d src/door.d

all: $(LIBRARIES)
install: install-libraries install-recipes
.PHONY: install-libraries install-recipes

pg_tenancy_http.so: src/http.o
	$(CC) $(CFLAGS) $(CFLAGS_SL) -shared -o $@ $< $(LDFLAGS) -lcurl

pg_tenancy_door.so: src/door.o
	$(CC) $(CFLAGS) $(CFLAGS_SL) -shared -o $@ $< $(LDFLAGS) -lmicrohttpd

install-libraries: $(LIBRARIES)
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	for library in $(LIBRARIES); do $(INSTALL_SHLIB) $$library '$(DESTDIR)$(pkglibdir)'; done

# What provisioning calls outside of the database: an operator's to use or to replace.
RECIPES = $(filter-out %.pyc %__pycache__,$(wildcard recipes/*))

install-recipes:
	$(MKDIR_P) '$(DESTDIR)$(datadir)/pg_tenancy/recipes'
	for recipe in $(RECIPES); do \
		if [ -x $$recipe ]; then mode=755; else mode=644; fi; \
		install -m $$mode $$recipe '$(DESTDIR)$(datadir)/pg_tenancy/recipes' || exit 1; \
	done

# The source says CREATE OR REPLACE, so that an update can run it again; the
# installed script says CREATE, so that an object made beforehand by somebody
# else fails the install instead of surviving it.
$(SCRIPT): $(FRAGMENTS) pg_tenancy.control Makefile
	sed -e 's/^CREATE OR REPLACE /CREATE /' $(FRAGMENTS) > $@

# PostgreSQL's own headers have unused parameters and mixed signs throughout, and our
# tables leave out what is zero.
STRICT = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Werror

.PHONY: setup demo test test-core test-fuzz strict bench format help

setup: ## install what is missing (apt)
	@test/setup

demo: setup ## watch a database create tenants, keep them apart, meter and bill them
	@$(MAKE) -s --no-print-directory all
	@test/demo/run

test: setup ## build with warnings as errors and run every suite
	@test/setup servers
	@test/run $(ONLY)

test-core: setup ## run PostgreSQL's own regression suite with the extension loaded; a minute
	@test/core/run

test-fuzz: setup ## run 100,000 random statements of SQLsmith as a tenant; minutes
	@test/fuzz/run

# Objects that were built without these must not pass for strict ones.  Made old and not
# deleted: PGXS makes all files .SECONDARY, and one that is missing is not made again.
strict:
	@find src -name '*.o' $(if $(wildcard build/strict),-newer build/strict) -exec touch -t 197001010000 {} +
	@$(MAKE) -s --no-print-directory all WERROR="$(STRICT)"
	@mkdir -p build && touch build/strict

format: ## lay out the C files
	clang-format -i $(shell find src -name '*.[ch]')

help: ## list these goals
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
