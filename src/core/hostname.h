/*
 * core/hostname.h
 *		Host names, as the Domain Name System has them (RFC 1035, 2.3.4; RFC 1123, 2.1).
 */
#pragma once

#include "postgres.h"

#include "utils/guc.h"

#define HOSTNAME_LENGTH 253

/*
 * The name in lower case and without the dot that may end it, into a buffer of
 * HOSTNAME_LENGTH + 1 bytes.  Result: NULL, or what is wrong with it, as a sentence.  Allocates
 * nothing and never raises.
 */
extern const char *hostname_read(const char *text, size_t length, char *name);

/* Is the name, read before, the suffix or below it? */
extern bool hostname_is_below(const char *name, const char *suffix);

/* Does tenancy.reserved_domains name it, or what it is below? */
extern bool hostname_is_reserved(const char *name);

/* The check hooks of tenancy.base_domain and tenancy.reserved_domains. */
extern bool hostname_check_base(char **value, void **extra, GucSource source);
extern bool hostname_check_reserved(char **value, void **extra, GucSource source);
