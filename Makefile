# pg_tenancy: build with PGXS.  "make demo" and "make test" are the two commands
# to know; "make help" lists the others.

# The floors of src/, from the ground up: the order of the install script and the
# include rule (a file includes its own folder and those to the left of it).
# PGXS has a MODULES of its own with another meaning, hence the name.
FLOORS = core shmem catalog context crypto job tenant meter billing hook worker

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
PG_CFLAGS = -std=gnu11 -fvisibility=hidden $(WERROR)
SHLIB_LINK = -lsodium
EXTRA_CLEAN = $(OBJS:.o=.d) $(SCRIPT)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)

# No bitcode: nothing here is worth inlining into a JIT-compiled expression.
override with_llvm = no
include $(PGXS)

-include $(OBJS:.o=.d)

# The source says CREATE OR REPLACE, so that an update can run it again; the
# installed script says CREATE, so that an object made beforehand by somebody
# else fails the install instead of surviving it.
$(SCRIPT): $(FRAGMENTS) pg_tenancy.control Makefile
	sed -e 's/^CREATE OR REPLACE /CREATE /' $(FRAGMENTS) > $@
